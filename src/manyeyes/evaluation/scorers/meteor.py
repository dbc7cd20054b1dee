"""METEOR 1.5 (``-l en -norm``) as in the COCO caption evaluation; needs Java.

The alignment of each answer with its references is made by the program that comes with
pycocoevalcap; it gives 23 counts a caption. From their sums (Denkowski and Lavie, "Meteor
Universal", 2014, parameters for English):

    P = Σ w·(δ·content + (1 - δ)·function matches) / (δ·content + (1 - δ)·function words)
    R likewise over the reference; F = P·R / (α·P + (1 - α)·R)
    score = F · (1 - γ·(chunks / matches)^β)

One chunk that covers a whole answer and a whole reference counts as none.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyeyes.errors import UsageError
from manyeyes.lines import split_lines

Floats = NDArray[np.float64]
Tokens = Sequence[str]

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MODULES = np.array([1.0, 0.6, 0.8, 0.6])
"""Weights of exact, stem, synonym and paraphrase matches."""

_COUNTS = 23


@dataclass(frozen=True)
class MeteorCorpus:
    """``counts`` ``[n, 23]`` of each caption: words and function words of answer and reference,
    four numbers for each kind of match, chunks, matched words of answer and reference."""

    counts: Floats

    def score(self, weights: Floats | None = None) -> float:
        """Corpus METEOR (0..1); ``weights`` ``[n]`` repeat captions, for the bootstrap."""
        weight = np.ones(len(self.counts)) if weights is None else weights
        return _score(weight @ self.counts)

    def per_image(self) -> list[float]:
        """METEOR of each caption alone."""
        return [_score(row) for row in self.counts]


def meteor_corpus(
    answers: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> MeteorCorpus:
    """Align tokenised answers (one per image) with their tokenised references.

    Raises:
        UsageError: Java or pycocoevalcap is missing, or the program fails.
    """
    missing = missing_for_meteor()
    if missing is not None:
        raise UsageError(missing)
    lines = [
        " ||| ".join(
            ["SCORE", *(" ".join(tokens) for tokens in image_references), " ".join(answer)]
        )
        for answer, image_references in zip(answers, references, strict=True)
    ]
    command = ["java", "-jar", "-Xmx2G", str(_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    rows = [line.split() for line in split_lines(done.stdout.decode()) if line.strip()]
    if len(rows) != len(lines) or any(len(row) != _COUNTS for row in rows):
        reason = split_lines(done.stderr.decode(errors="replace").strip())
        raise UsageError(f"METEOR's program failed: {reason[-1] if reason else 'no reason given'}")
    return MeteorCorpus(_without_perfect(np.array(rows, dtype=np.float64)))


def missing_for_meteor() -> str | None:
    """What METEOR still needs here, as a sentence; None where it can be computed."""
    if _jar() is None:
        return "METEOR needs pycocoevalcap: pip install 'manyeyes[captions]'"
    if shutil.which("java") is None:
        return "METEOR needs Java: no 'java' is on the path"
    return None


def _jar() -> Path | None:
    package = find_spec("pycocoevalcap")
    for folder in (package.submodule_search_locations if package else None) or ():
        jar = Path(folder) / "meteor" / "meteor-1.5.jar"
        if jar.is_file():
            return jar
    return None


def _without_perfect(counts: Floats) -> Floats:
    """Set the single chunk of captions that match their reference from end to end to 0."""
    whole = (counts[:, 21] == counts[:, 0]) & (counts[:, 22] == counts[:, 1])
    counts[whole & (counts[:, 20] == 1), 20] = 0
    return counts


def _score(counts: Floats) -> float:
    answer_words, reference_words, answer_function, reference_function = counts[:4]
    kinds = counts[4:20].reshape(4, 4)
    content, function = _DELTA, 1 - _DELTA
    answer, reference, answer_f, reference_f = _MODULES @ kinds
    precision = _share(
        content * answer + function * answer_f,
        content * (answer_words - answer_function) + function * answer_function,
    )
    recall = _share(
        content * reference + function * reference_f,
        content * (reference_words - reference_function) + function * reference_function,
    )
    mean = _share(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    chunks, in_answer, in_reference = counts[20:]
    return mean * (1 - _GAMMA * _share(chunks, (in_answer + in_reference) / 2) ** _BETA)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
