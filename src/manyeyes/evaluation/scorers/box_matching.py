"""Detections matched to objects as COCO does it, kept per image so that images can be weighed.

The bootstrap asks for AP many times over other multisets of images; matching does not depend on
them. With every weight 1 the figures are those of `coco_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyeyes.evaluation.scorers.coco_boxes import FoundBox, Shape, TrueBox, passed_over

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WEIGHTED = ("AP", "AP50", "AP75", "AR100")
"""What `MatchedBoxes.score` returns."""

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100


@dataclass(frozen=True)
class _Matched:
    """Detections of one category, best score first, and where its objects are.

    ``image`` ``[N]``, ``hit`` and ``ignored`` ``[N, T]``; ``objects`` ``[I]`` counts per image.
    """

    image: NDArray[np.intp]
    hit: BoolArray
    ignored: BoolArray
    objects: FloatArray


@dataclass(frozen=True)
class MatchedBoxes:
    """Detections that have met their objects, by category."""

    categories: tuple[_Matched, ...]
    images: int

    def score(self, weights: FloatArray) -> list[float]:
        """`WEIGHTED` in 0..1, each image counted ``weights`` ``[I]`` times; 0 without objects.

        With weights 1 these are COCO's figures.
        """
        rows = [_average_precision(matched, weights) for matched in self.categories]
        kept = [row for row in rows if row is not None]
        if not kept:
            return [0.0] * len(WEIGHTED)
        precision = np.array([precision for precision, _ in kept])  # [category, threshold]
        recall = np.array([recall for _, recall in kept])
        at_50, at_75 = precision[:, 0].mean(), precision[:, 5].mean()
        return [float(v) for v in (precision.mean(), at_50, at_75, recall.mean())]

    def per_image(self) -> list[float]:
        """Each image's own AP50, over the categories of its objects; ours.

        An image without objects that count has 1 if nothing was found in it, else 0.
        """
        precisions: list[list[float]] = [[] for _ in range(self.images)]
        busy = np.zeros(self.images, dtype=bool)
        for matched in self.categories:
            busy[matched.image[~matched.ignored[:, 0]]] = True
            for image in np.flatnonzero(matched.objects):
                mine = matched.image == image
                alone = _Matched(
                    matched.image[mine] * 0,
                    matched.hit[mine, :1],
                    matched.ignored[mine, :1],
                    matched.objects[image : image + 1],
                )
                row = _average_precision(alone, np.ones(1))
                precisions[image].append(float(row[0][0]) if row else 0.0)
        return [
            float(np.mean(own)) if own else float(not busy[image])
            for image, own in enumerate(precisions)
        ]


def match_boxes(truth: Sequence[TrueBox], found: Sequence[FoundBox], shape: Shape) -> MatchedBoxes:
    """Let every detection, best score first, take the free object it overlaps most."""
    objects = _grouped(truth)
    detections = _grouped(found)
    categories = []
    for category in range(shape.categories):
        counts = np.zeros(shape.images)
        parts = []
        for image in range(shape.images):
            true = sorted(objects.get((image, category), []), key=passed_over)
            counts[image] = sum(not passed_over(box) for box in true)
            some = sorted(detections.get((image, category), []), key=lambda box: -box.score)[:_MOST]
            if some:
                hit, ignored = _match(true, some)
                scores = np.array([box.score for box in some])
                parts.append((scores, np.full(len(some), image), hit, ignored))
        categories.append(_sorted_by_score(parts, counts))
    return MatchedBoxes(tuple(categories), shape.images)


def _match(true: Sequence[TrueBox], found: Sequence[FoundBox]) -> tuple[BoolArray, BoolArray]:
    """``[N, T]``: whether a detection hits an object that counts, and whether it is ignored.

    ``true`` holds the objects that count first: only where none of them is free and overlaps
    enough, one of the others is taken.
    """
    steps = len(_THRESHOLDS)
    hit = np.zeros((len(found), steps), dtype=bool)
    ignored = np.zeros((len(found), steps), dtype=bool)
    if not true:
        return hit, ignored
    overlaps = _overlaps(true, found)
    other = np.array([passed_over(box) for box in true])
    crowd = np.array([box.crowd for box in true])
    free = np.ones((steps, len(true)), dtype=bool)
    enough = np.minimum(_THRESHOLDS, 1 - 1e-10)[:, None]
    for place, overlap in enumerate(overlaps):
        usable = (free | crowd) & (overlap >= enough)
        for group, result in ((~other, hit), (other, ignored)):
            open_steps = (usable & group).any(axis=1) & ~hit[place]
            values = np.where(usable & group, overlap, -1.0)
            best = len(true) - 1 - values[:, ::-1].argmax(axis=1)  # the last of equals
            free[open_steps, best[open_steps]] = False
            result[place] = open_steps
    return hit, ignored


def _average_precision(
    matched: _Matched, weights: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Mean precision at 101 recalls and final recall, each ``[T]``; None without objects."""
    total = float(weights @ matched.objects)
    if total == 0:
        return None
    steps = matched.hit.shape[1]
    if matched.image.size == 0:
        return np.zeros(steps), np.zeros(steps)
    own = weights[matched.image][:, None]
    hits = np.cumsum(matched.hit * own, axis=0)
    misses = np.cumsum(~(matched.hit | matched.ignored) * own, axis=0)
    recall = hits / total
    precision = hits / (hits + misses + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    padded = np.vstack([envelope, np.zeros(steps)])  # recalls that are never reached
    places = np.array([np.searchsorted(column, _RECALLS) for column in recall.T])
    return padded[places, np.arange(steps)[:, None]].mean(axis=1), recall[-1]


def _sorted_by_score(parts: Sequence[tuple[Any, ...]], objects: FloatArray) -> _Matched:
    if not parts:
        empty = np.zeros((0, len(_THRESHOLDS)), dtype=bool)
        return _Matched(np.zeros(0, dtype=np.intp), empty, empty, objects)
    scores, images, hit, ignored = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="mergesort")
    return _Matched(images[order], hit[order], ignored[order], objects)


def _overlaps(true: Sequence[TrueBox], found: Sequence[FoundBox]) -> FloatArray:
    """IoU ``[N, G]``; of a crowd region the share of the detection that lies in it."""
    a = np.array([box.box for box in found])[:, None]
    b = np.array([box.box for box in true])[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared: FloatArray = np.clip(high - low, 0.0, None).prod(axis=-1)
    area_a, area_b = a[..., 2:].prod(axis=-1), b[..., 2:].prod(axis=-1)
    crowd = np.array([box.crowd for box in true])[None]
    union = np.where(crowd, area_a, area_a + area_b - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _grouped(boxes: Sequence[Any]) -> dict[tuple[int, int], list[Any]]:
    groups: dict[tuple[int, int], list[Any]] = {}
    for box in boxes:
        groups.setdefault((box.image, box.category), []).append(box)
    return groups
