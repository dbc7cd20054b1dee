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


class MatchedBoxes:
    """Detections that have met their objects, by category."""

    def __init__(self, categories: Sequence[_Matched], images: int) -> None:
        self.categories, self.images = tuple(categories), images
        self._curves = _Curves(self.categories)

    def score(self, weights: FloatArray) -> list[float]:
        """`WEIGHTED` in 0..1, each image counted ``weights`` ``[I]`` times; 0 without objects.

        Weights are whole numbers. With weights 1 these are COCO's figures.
        """
        precision, recall, objects = self._curves.summary(weights)
        counted = objects > 0
        if not counted.any():
            return [0.0] * len(WEIGHTED)
        kept = precision[counted]  # [category, threshold]
        means = kept.mean(), kept[:, 0].mean(), kept[:, 5].mean(), recall[counted].mean()
        return [float(value) for value in means]

    def per_image(self) -> list[float]:
        """Each image's own AP50, over the categories of its objects; ours.

        An image without objects that count has 1 if nothing was found in it, else 0.
        """
        own: list[_Matched] = []
        owners: list[int] = []
        busy = np.zeros(self.images, dtype=bool)
        for matched in self.categories:
            busy[matched.image[~matched.ignored[:, 0]]] = True
            for image in np.flatnonzero(matched.objects):
                mine = matched.image == image
                hit, ignored = matched.hit[mine, :1], matched.ignored[mine, :1]
                objects = matched.objects[image : image + 1]
                own.append(_Matched(np.zeros(len(hit), dtype=np.intp), hit, ignored, objects))
                owners.append(int(image))
        if not own:
            return [float(value) for value in ~busy]
        precision, _, _ = _Curves(own).summary(np.ones(1))
        categories = np.bincount(owners, minlength=self.images)
        sums = np.bincount(owners, weights=precision[:, 0], minlength=self.images)
        shares = np.where(categories > 0, sums / np.maximum(categories, 1), ~busy)
        return [float(value) for value in shares]


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


class _Curves:
    """Precision-recall curves of G groups at T thresholds in one flat array, for many weightings.

    Curve g * T + t lies at ``start[g * T + t] : end[g * T + t]`` of M points, best score first.
    Counts are whole numbers, so that shifting curves apart and back loses nothing.
    """

    def __init__(self, groups: Sequence[_Matched]) -> None:
        self.steps = groups[0].hit.shape[1] if groups else 0
        sizes = np.repeat([len(group.image) for group in groups], self.steps)
        self.end = np.cumsum(sizes)
        self.start = self.end - sizes
        self.curve = np.repeat(np.arange(len(sizes)), sizes)
        self.image = _joined([np.tile(group.image, self.steps) for group in groups], np.intp)
        self.hit = _joined([group.hit.T.ravel() for group in groups], np.bool_)
        ignored = _joined([group.ignored.T.ravel() for group in groups], np.bool_)
        self.miss = ~(self.hit | ignored)
        self.objects = np.array([group.objects for group in groups])

    def summary(self, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean precision at 101 recalls and last recall ``[G, T]``, objects ``[G]``, weighted."""
        objects: FloatArray = self.objects @ weights if len(self.objects) else np.zeros(0)
        shape = (len(objects), self.steps)
        own = weights[self.image]
        hits = self._running(own * self.hit)
        misses = self._running(own * self.miss)
        precision = self._envelope(hits / (hits + misses + np.spacing(1)))
        total = np.repeat(objects, self.steps)
        places = self._first_reaching(hits, _needed(total))
        reached = places < self.end[:, None]
        padded = np.append(precision, 0.0)
        mean = np.where(reached, padded[np.where(reached, places, 0)], 0.0).mean(axis=1)
        last = np.append(hits, 0.0)[self.end - 1] * (self.end > self.start)
        recall = np.divide(last, total, out=np.zeros_like(last), where=total > 0)
        return mean.reshape(shape), recall.reshape(shape), objects

    def _running(self, values: FloatArray) -> FloatArray:
        """Running sums that start anew with every curve."""
        sums = np.concatenate([[0.0], np.cumsum(values)])
        running: FloatArray = sums[1:] - sums[self.start][self.curve]
        return running

    def _envelope(self, precision: FloatArray) -> FloatArray:
        """The best precision at this recall or a higher one, within every curve."""
        apart = 2.0 * (len(self.end) - self.curve)
        envelope: FloatArray = np.maximum.accumulate((precision + apart)[::-1])[::-1] - apart
        return envelope

    def _first_reaching(self, hits: FloatArray, needed: FloatArray) -> NDArray[np.intp]:
        """``[curves, 101]``: the first point of each curve with so many hits, or one behind it."""
        apart = needed.max(initial=0.0) + hits.max(initial=0.0) + 1.0
        first = np.arange(len(self.end))[:, None] * apart
        return np.searchsorted(hits + self.curve * apart, needed + first)


def _needed(total: FloatArray) -> FloatArray:
    """``[n]`` objects -> ``[n, 101]``: the fewest hits whose share of them reaches each recall."""
    total = np.maximum(total, 1.0)[:, None]
    guess = np.ceil(_RECALLS * total)
    guess -= (guess - 1) / total >= _RECALLS
    guess += guess / total < _RECALLS
    return guess


def _joined(parts: Sequence[NDArray[Any]], kind: type[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)


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
