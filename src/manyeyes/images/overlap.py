"""How much boxes overlap: intersection over union of corners ``(x1, y1, x2, y2)`` in pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyeyes.records import Box


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes; 0 where the union has no area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(a) + _area(b) - shared
    return shared / union if union > 0 else 0.0


def pairwise_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """`iou` of all pairs: ``[A, 4]``, ``[B, 4]`` -> ``[A, B]``."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: NDArray[np.float64] = np.clip(high - low, 0.0, None).prod(axis=2)
    union = _areas(first)[:, None] + _areas(second)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1)
    return areas
