"""Referring expression comprehension: is the one box the model gives the object meant?

    official   right if IoU >= 0.5 (lichengunc/refer)
    shikra     right if IoU > 0.5 (Shikra, followed by COMM)

Boxes are (x1, y1, x2, y2) in pixels of the original image, without a +1 pixel convention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manyeyes.errors import UsageError, nearest
from manyeyes.images.overlap import iou
from manyeyes.records import Box

IOU_THRESHOLD = 0.5

REC_VARIANTS: Mapping[str, bool] = {"official": False, "shikra": True}
"""Variant -> whether IoU must be strictly above the threshold; the first is the default."""


@dataclass(frozen=True)
class RecScore:
    """One answer: right or wrong, its IoU (0 if unparsable), whether it held exactly one box."""

    correct: bool
    iou: float
    parsed: bool


def score_boxes(boxes: Sequence[Box], target: Box, variant: str = "official") -> RecScore:
    """Score all boxes found in an answer against the true box.

    No box and several boxes are wrong and count as parse failures.

    Raises:
        UsageError: an unknown variant.
    """
    if variant not in REC_VARIANTS:
        known = ", ".join(REC_VARIANTS)
        hint = nearest(variant, REC_VARIANTS)
        raise UsageError(f"unknown REC variant {variant!r}{hint}; known: {known}")
    if len(boxes) != 1:
        return RecScore(False, 0.0, False)
    overlap = iou(boxes[0], target)
    correct = overlap > IOU_THRESHOLD if REC_VARIANTS[variant] else overlap >= IOU_THRESHOLD
    return RecScore(correct, overlap, True)
