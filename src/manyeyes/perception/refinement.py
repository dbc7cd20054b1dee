"""A detector's list corrected by what the language model wrote (MR-MLLM §1.5, text mode; ours).

All weights are 0 by default, where the detector's list comes back unchanged whatever was written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from manyeyes.errors import UsageError
from manyeyes.images.overlap import pairwise_iou
from manyeyes.perception.text import best_first, written_name
from manyeyes.records import Box, Detection, Detections

MATCHED_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class MergeWeights:
    """How far the written list is believed, each in 0..1.

    gamma: agreement raises a score s to ``s + gamma (1 - s)``; a known class that contradicts takes
    the place of the detector's where ``gamma p > (1 - gamma) s``, with the score ``gamma p``, p
    being the probability of the written name. drop: objects that nobody wrote keep
    ``s (1 - drop)``. add: objects that only the text has come in with the score ``add p``.
    """

    gamma: float = 0.0
    drop: float = 0.0
    add: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise UsageError(f"merge weight {name} is {value!r}, not in 0..1")


@dataclass(frozen=True)
class Refined:
    """The corrected list, and objects of classes that the detector does not know."""

    objects: Detections
    open_vocabulary: Detections = ()


def merge_objects(
    detected: Detections,
    written: Sequence[Detection],
    labels: Collection[str],
    weights: MergeWeights,
    *,
    iou: float = MATCHED_IOU,
) -> Refined:
    """Match both lists one to one by overlap, classes aside, and merge them.

    Args:
        detected: the detector's list, with scores. written: the language model's; its scores are
            probabilities, 1 where there is none. labels: the classes the detector knows.
        iou: overlap from which two boxes are one object.
    """
    names = {written_name(label): label for label in labels if label.strip()}
    known = [replace(w, label=names.get(w.label, w.label)) for w in written]
    novel = tuple(w for w in known if w.label not in labels)
    if weights == MergeWeights():
        return Refined(detected, novel)
    pairs = match_boxes([d.box for d in detected], [w.box for w in known], iou)
    merged = []
    for place, found in enumerate(detected):
        score = 1.0 if found.score is None else found.score
        if place not in pairs:
            merged.append(replace(found, score=score * (1.0 - weights.drop)))
        else:
            merged.append(
                _agreed(replace(found, score=score), known[pairs[place]], labels, weights)
            )
    taken = set(pairs.values())
    if weights.add:
        merged += [
            replace(w, score=weights.add * _probability(w))
            for place, w in enumerate(known)
            if place not in taken and w.label in labels
        ]
    return Refined(best_first(merged), novel)


def match_boxes(first: Sequence[Box], second: Sequence[Box], iou: float) -> dict[int, int]:
    """Return the pairs (place in ``first`` -> in ``second``) of the best one-to-one assignment.

    Pairs that overlap by less than ``iou`` are not counted.
    """
    if not first or not second:
        return {}
    overlap = pairwise_iou(first, second)
    rows, columns = linear_sum_assignment(np.where(overlap >= iou, overlap, 0.0), maximize=True)
    return {
        int(row): int(column)
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] >= iou
    }


def _agreed(
    found: Detection, written: Detection, labels: Collection[str], weights: MergeWeights
) -> Detection:
    """A detection whose box the text has as well, with the same class or another."""
    score = found.score or 0.0
    if written.label == found.label:
        return replace(found, score=score + weights.gamma * (1.0 - score))
    claim = weights.gamma * _probability(written)
    if written.label in labels and claim > (1.0 - weights.gamma) * score:
        return replace(found, label=written.label, score=claim)
    return found


def _probability(written: Detection) -> float:
    return 1.0 if written.score is None else written.score
