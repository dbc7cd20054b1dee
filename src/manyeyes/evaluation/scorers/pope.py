"""POPE: does the model say yes to objects that are not there? Positive class: yes.

official   RUCAIBox/POPE: "no" if a word before the first period is exactly No, no or not;
           everything else, the empty answer and "NO!" included, counts as yes
strict     the first word that is yes or no in any letter case; none: wrong, and counted (ours)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyeyes.errors import UsageError, nearest

_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True)
class PopeMetrics:
    """Shares 0..1; a zero denominator gives 0. ``yes_ratio`` counts predicted yes."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


def parse_yes_no(answer: str, variant: str = "official") -> str | None:
    """Return "yes", "no", or None where the strict rule finds neither.

    Raises:
        UsageError: an unknown variant.
    """
    if variant not in POPE_VARIANTS:
        known = ", ".join(POPE_VARIANTS)
        hint = nearest(variant, POPE_VARIANTS)
        raise UsageError(f"unknown POPE variant {variant!r}{hint}; known: {known}")
    return POPE_VARIANTS[variant](answer)


@dataclass(frozen=True)
class PopeAnswers:
    """Parsed answers against their labels as 0/1 arrays ``[n]``, ready for weighted metrics."""

    said_yes: NDArray[np.float64]
    is_yes: NDArray[np.float64]
    right: NDArray[np.float64]

    def metrics(self, weights: NDArray[np.float64] | None = None) -> PopeMetrics:
        """The metrics; ``weights`` ``[n]`` repeat items, for the bootstrap."""
        weight = np.ones(len(self.right)) if weights is None else weights
        said_yes = float(weight @ self.said_yes)
        true_yes = float(weight @ (self.said_yes * self.is_yes))
        precision = _share(true_yes, said_yes)
        recall = _share(true_yes, float(weight @ self.is_yes))
        return PopeMetrics(
            accuracy=_share(float(weight @ self.right), float(weight.sum())),
            precision=precision,
            recall=recall,
            f1=_share(2 * precision * recall, precision + recall),
            yes_ratio=_share(said_yes, float(weight.sum())),
        )


def pope_answers(parsed: Sequence[str | None], labels: Sequence[str]) -> PopeAnswers:
    """Compare parsed answers with yes/no labels.

    An unparsable answer (None) is wrong and no prediction of yes: a missed positive, or an error
    on a negative.
    """
    return PopeAnswers(
        said_yes=np.array([answer == "yes" for answer in parsed], dtype=np.float64),
        is_yes=np.array([label == "yes" for label in labels], dtype=np.float64),
        right=np.array([a == b for a, b in zip(parsed, labels, strict=True)], dtype=np.float64),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _official(answer: str) -> str:
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def _strict(answer: str) -> str | None:
    found = _YES_NO.search(answer)
    return found.group(1).lower() if found else None


POPE_VARIANTS: Mapping[str, Callable[[str], str | None]] = {
    "official": _official,
    "strict": _strict,
}
"""Answer parsers by name; the first is the default."""
