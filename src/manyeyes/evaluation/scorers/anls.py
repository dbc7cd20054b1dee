"""ANLS: how near an answer's spelling is to the nearest reference (DocVQA, InfographicVQA).

    NL(a, b) = edit distance / length of the longer      s = 1 - NL if NL < 0.5, else 0

The best reference counts; the dataset's score is the mean. Letter case and surrounding white space
do not count (Biten et al. 2019, arXiv 1905.13648, §3; threshold τ = 0.5).

paper      the formula above
official   the script of the challenge (rrc.cvc.uab.es): NL = 0.5 still scores 0.5, and lengths are
           those of the texts as written, blanks included
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

THRESHOLD = 0.5


def anls(prediction: str, references: Sequence[str]) -> float:
    """Similarity 0..1 of one answer to its nearest reference."""
    said = _tidy(prediction)
    return max((_similarity(said, _tidy(reference)) for reference in references), default=0.0)


def anls_official(prediction: str, references: Sequence[str]) -> float:
    """Similarity 0..1 of one answer to its nearest reference, as the challenge's script has it."""
    said = _tidy(prediction)
    near = [
        edit_distance(said, _tidy(reference)) / (max(len(prediction), len(reference)) or 1)
        for reference in references
    ]
    score = 1.0 - min(near, default=1.0)
    return score if score >= THRESHOLD else 0.0


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and replacements of characters that turn ``a`` into ``b``."""
    row = list(range(len(b) + 1))
    for place, char in enumerate(a, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(b, start=1):
            best = min(row[column] + 1, row[column - 1] + 1, diagonal + (char != other))
            diagonal, row[column] = row[column], best
    return row[-1]


def _similarity(a: str, b: str) -> float:
    longest = max(len(a), len(b))
    distance = edit_distance(a, b) / longest if longest else 0.0
    return 1.0 - distance if distance < THRESHOLD else 0.0


def _tidy(text: str) -> str:
    return " ".join(text.strip().lower().split())


ANLS_VARIANTS: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "official": anls_official,
    "paper": anls,
}
"""Rules by name; the first is the default."""
