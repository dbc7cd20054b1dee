"""BLEU-1..4 as in the COCO caption evaluation: corpus counts, closest reference length.

The vanishing constants are those of the official code, so that empty answers give 0, not an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyeyes.evaluation.scorers.ngrams import Ngram, ngram_counts

_LONGEST = 4
_TINY, _SMALL = 1e-15, 1e-9


@dataclass(frozen=True)
class BleuCorpus:
    """Per image: matched and possible n-grams ``[n, 4]``, answer and reference lengths ``[n]``."""

    correct: NDArray[np.float64]
    possible: NDArray[np.float64]
    length: NDArray[np.float64]
    reference_length: NDArray[np.float64]

    def score(self, weights: NDArray[np.float64] | None = None) -> tuple[float, ...]:
        """Corpus BLEU-1..4 (0..1); ``weights`` ``[n]`` repeat images, for the bootstrap."""
        weight = np.ones(len(self.length)) if weights is None else weights
        return _bleu(
            weight @ self.correct,
            weight @ self.possible,
            float(weight @ self.length),
            float(weight @ self.reference_length),
        )

    def per_image(self) -> list[tuple[float, ...]]:
        """BLEU-1..4 of each image alone."""
        rows = zip(self.correct, self.possible, self.length, self.reference_length, strict=True)
        return [_bleu(c, p, float(length), float(ref)) for c, p, length, ref in rows]


def bleu_corpus(
    answers: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> BleuCorpus:
    """Count the matches of each tokenised answer with its tokenised references.

    An n-gram matches at most as often as in the one reference that holds it most often.
    """
    correct, possible, lengths, reference_lengths = [], [], [], []
    for tokens, image_references in zip(answers, references, strict=True):
        size = len(tokens)
        correct.append(_matches(tokens, image_references))
        possible.append([max(0, size - n + 1) for n in range(1, _LONGEST + 1)])
        lengths.append(size)
        closest = min((abs(len(ref) - size), len(ref)) for ref in image_references)
        reference_lengths.append(closest[1])
    return BleuCorpus(
        np.array(correct, dtype=np.float64),
        np.array(possible, dtype=np.float64),
        np.array(lengths, dtype=np.float64),
        np.array(reference_lengths, dtype=np.float64),
    )


def _matches(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    most: Counter[Ngram] = Counter()
    for reference in references:
        most |= ngram_counts(reference, _LONGEST)
    matched = [0] * _LONGEST
    for ngram, count in ngram_counts(tokens, _LONGEST).items():
        matched[len(ngram) - 1] += min(count, most[ngram])
    return matched


def _bleu(
    correct: NDArray[np.float64],
    possible: NDArray[np.float64],
    length: float,
    reference_length: float,
) -> tuple[float, ...]:
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for n in range(_LONGEST):
        product *= (float(correct[n]) + _TINY) / (float(possible[n]) + _SMALL)
        scores.append(product ** (1 / (n + 1)) * brevity)
    return tuple(scores)
