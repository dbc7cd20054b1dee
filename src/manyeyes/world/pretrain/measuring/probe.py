"""Linear probes of a scene's features, object by object, for the cards of the world's parts.

Attributes are read from the 3 x 3 points around the object's centre, the count from the mean and
maximum over patches, the place of an object named by its colour from one score per patch (the
expected position under their softmax). The probes themselves are those of ``manyeyes.probes``.
Shapes: B pictures, N patches, D width, M objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from manyeyes.probes.fitting import standardized
from manyeyes.probes.linear import classify, locate, pooled
from manyeyes.probes.places import WINDOW, read_places
from manyeyes.world.pretrain.measuring.objects import ATTRIBUTES, object_rows
from manyeyes.world.sample import IMAGE_SIZE, MAX_OBJECTS
from manyeyes.world.scene import COLORS, Scene

PROBED = (*ATTRIBUTES, "count", "place_px")
"""Figures of a probe: accuracies in 0..1, and the mean distance in pixels for the place."""


@dataclass(frozen=True)
class ProbeResult:
    """Figures by name (see ``PROBED``) on ``objects`` objects of ``scenes`` held-out scenes."""

    figures: dict[str, float]
    objects: int
    scenes: int


def probe(
    train: Tensor,
    train_scenes: Sequence[Scene],
    test: Tensor,
    test_scenes: Sequence[Scene],
    seed: int = 0,
) -> ProbeResult:
    """Train all probes on features ``[B, N, D]`` of the training scenes, measure on the others."""
    train, test = standardized(train, test, dims=(0, 1))
    figures = _attributes(train, train_scenes, test, test_scenes, seed)
    figures["count"] = _count(train, train_scenes, test, test_scenes, seed)
    figures["place_px"] = _place(train, train_scenes, test, test_scenes, seed)
    objects = sum(len(scene.objects) for scene in test_scenes)
    return ProbeResult(figures, objects, len(test_scenes))


def _attributes(
    train: Tensor,
    train_scenes: Sequence[Scene],
    test: Tensor,
    test_scenes: Sequence[Scene],
    seed: int,
) -> dict[str, float]:
    rows, held = object_rows(train_scenes), object_rows(test_scenes)
    inputs = read_places(train, rows.picture, rows.place, WINDOW)
    unseen = read_places(test, held.picture, held.place, WINDOW)
    sizes = [len(values) for values in ATTRIBUTES.values()]
    logits = classify(inputs, list(rows.labels.values()), sizes, unseen, seed)
    return {
        name: _accuracy(scores, held.labels[name])
        for name, scores in zip(rows.labels, logits, strict=True)
    }


def _count(
    train: Tensor,
    train_scenes: Sequence[Scene],
    test: Tensor,
    test_scenes: Sequence[Scene],
    seed: int,
) -> float:
    wanted = torch.tensor([len(scene.objects) - 1 for scene in train_scenes])
    truth = torch.tensor([len(scene.objects) - 1 for scene in test_scenes])
    (scores,) = classify(pooled(train), [wanted], [MAX_OBJECTS], pooled(test), seed)
    return _accuracy(scores, truth)


def _accuracy(scores: Tensor, truth: Tensor) -> float:
    return float((scores.argmax(dim=1) == truth).float().mean())


def named_by_color(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """List objects whose colour is unique in their scene: picture, colour, centre in pixels."""
    picture, color, place = [], [], []
    for number, scene in enumerate(scenes):
        times = Counter(o.color for o in scene.objects)
        for item in scene.objects:
            if times[item.color] == 1:
                picture.append(number)
                color.append(COLORS.index(item.color))
                place.append((item.x + 0.5, item.y + 0.5))
    return torch.tensor(picture), torch.tensor(color), torch.tensor(place)


def _place(
    train: Tensor,
    train_scenes: Sequence[Scene],
    test: Tensor,
    test_scenes: Sequence[Scene],
    seed: int,
) -> float:
    """Return the mean distance in pixels between named object and expected position."""
    picture, color, place = named_by_color(train_scenes)
    probe = locate(train, picture, color, place / IMAGE_SIZE, seed, len(COLORS))
    picture, color, place = named_by_color(test_scenes)
    with torch.no_grad():
        found = probe(test[picture], color) * IMAGE_SIZE
    return float((found - place).norm(dim=1).mean())
