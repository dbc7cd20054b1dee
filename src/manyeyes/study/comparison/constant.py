"""Whether any arm of a study knows more than the best constant answer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from manyeyes.evaluation.contract import CONSTANT


def below_constant(scores: Mapping[str, tuple[Sequence[float], float]]) -> str:
    """Return a sentence about benchmarks where all arms are below the constant answer, or "".

    ``scores``: benchmark's title -> (every arm's score, that of the best constant answer). What
    separates arms there is hardly what they see.
    """
    parts = [
        f"{title} ({max(arms):.1f} at best, against {constant:.1f})"
        for title, (arms, constant) in scores.items()
        if max(arms) < constant
    ]
    if not parts:
        return ""
    return f"All arms score below the best constant answer ({CONSTANT}) on {in_words(parts)}."


def in_words(parts: Sequence[str]) -> str:
    """Return ``one, two and three``; nothing for no parts."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
