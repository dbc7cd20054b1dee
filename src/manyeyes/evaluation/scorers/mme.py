"""MME (Fu et al. 2023): yes/no answers in 14 subtasks, two questions to an image.

accuracy is the share of right questions, accuracy+ that of images with all their questions right; a
subtask scores 100 · (accuracy + accuracy+), at most 200. Perception is the sum of 10 subtasks, at
most 2,000; cognition that of 4, at most 800.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

_LOOKED_AT = 4

Floats = NDArray[np.float64]


def parse_mme(answer: str) -> str | None:
    """Return "yes", "no", or None, which is wrong (lmms-eval, tasks/mme/utils.py).

    Lower-cased and without periods the answer is yes, no, y or n, or its first four characters hold
    yes or no; so "not sure" is no.
    """
    text = answer.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text)
    start = text[:_LOOKED_AT]
    return "yes" if "yes" in start else "no" if "no" in start else None


@dataclass(frozen=True)
class MmeAnswers:
    """Graded questions, ready for weighted scores.

    ``subtasks`` names them; ``of_question`` and ``of_image`` are places in it, ``[questions]`` and
    ``[images]``; ``first`` is the place of each image's first question: its weight is the image's.
    """

    subtasks: tuple[str, ...]
    right: Floats
    of_question: NDArray[np.int64]
    all_right: Floats
    of_image: NDArray[np.int64]
    first: NDArray[np.int64]

    def scores(self, weights: Floats | None = None) -> dict[str, float]:
        """The score (0..200) of each subtask; ``weights`` ``[questions]``, for the bootstrap."""
        weight = np.ones(len(self.right)) if weights is None else weights
        shares = self._shares(self.right, self.of_question, weight)
        shares_plus = self._shares(self.all_right, self.of_image, weight[self.first])
        return dict(zip(self.subtasks, (100 * (shares + shares_plus)).tolist(), strict=True))

    def _shares(self, values: Floats, place: NDArray[np.int64], weight: Floats) -> Floats:
        size = len(self.subtasks)
        whole = np.bincount(place, weight, minlength=size)
        part = np.bincount(place, weight * values, minlength=size)
        return np.divide(part, whole, out=np.zeros(size), where=whole > 0)


def mme_answers(
    right: Sequence[float], subtasks: Sequence[str], images: Sequence[str]
) -> MmeAnswers:
    """Group graded questions by the name of their subtask and of their image within it."""
    names = tuple(dict.fromkeys(subtasks))
    places: dict[tuple[str, str], list[int]] = {}
    for place, key in enumerate(zip(subtasks, images, strict=True)):
        places.setdefault(key, []).append(place)
    return MmeAnswers(
        subtasks=names,
        right=np.array(right, dtype=np.float64),
        of_question=np.array([names.index(name) for name in subtasks], dtype=np.int64),
        all_right=np.array([min(right[p] for p in group) for group in places.values()]),
        of_image=np.array([names.index(name) for name, _ in places], dtype=np.int64),
        first=np.array([group[0] for group in places.values()], dtype=np.int64),
    )
