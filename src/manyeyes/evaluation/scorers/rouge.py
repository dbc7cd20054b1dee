"""ROUGE-L as in the COCO caption evaluation: longest common subsequence, beta = 1.2.

Precision and recall are each the best over the references, possibly of different ones.
"""

from __future__ import annotations

from collections.abc import Sequence

_BETA_SQUARED = 1.2**2


def rouge_l(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """ROUGE-L (0..1) of one tokenised answer; (1 + β²)·P·R / (R + β²·P), 0 where P or R is 0."""
    # An empty caption is one empty word in the official code: it matches an empty reference only.
    words = list(tokens) or [""]
    precision, recall = 0.0, 0.0
    for reference in references:
        reference_words = list(reference) or [""]
        common = _common_subsequence(words, reference_words)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(reference_words))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, by one row of the usual table at a time."""
    previous = [0] * (len(b) + 1)
    for word in a:
        current = [0]
        for column, other in enumerate(b):
            if word == other:
                current.append(previous[column] + 1)
            else:
                current.append(max(previous[column + 1], current[column]))
        previous = current
    return previous[-1]
