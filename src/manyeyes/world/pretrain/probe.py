"""Linear probes: what can be read from frozen patch features, object by object.

Attributes are read from the 3 x 3 points around the object's centre, the count from the mean and
maximum over patches, the place of an object named by its colour from one score per patch (the
expected position under their softmax). Every probe is linear and trained the same way, so figures
of different features are comparable with each other, not with attentive probes.
Shapes: B pictures, N patches, D width, M objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from manyeyes.world.pretrain.places import ATTRIBUTES, object_rows, read_places
from manyeyes.world.sample import IMAGE_SIZE, MAX_OBJECTS
from manyeyes.world.scene import COLORS, Scene

WINDOW = 3
PROBED = (*ATTRIBUTES, "count", "place_px")
"""Figures of a probe: accuracies in 0..1, and the mean distance in pixels for the place."""

_STEPS = 250
_BATCH = 1024


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
    mean, std = train.mean(dim=(0, 1)), train.std(dim=(0, 1)) + 1e-5
    train, test = (train - mean) / std, (test - mean) / std
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
    logits = _fit(inputs, list(rows.labels.values()), unseen, seed)
    return {
        name: float((scores.argmax(dim=1) == held.labels[name]).float().mean())
        for name, scores in zip(rows.labels, logits, strict=True)
    }


def _count(
    train: Tensor,
    train_scenes: Sequence[Scene],
    test: Tensor,
    test_scenes: Sequence[Scene],
    seed: int,
) -> float:
    def pooled(x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=-1)

    wanted = torch.tensor([len(scene.objects) - 1 for scene in train_scenes])
    truth = torch.tensor([len(scene.objects) - 1 for scene in test_scenes])
    (scores,) = _fit(pooled(train), [wanted], pooled(test), seed, classes=[MAX_OBJECTS])
    return float((scores.argmax(dim=1) == truth).float().mean())


def _fit(
    inputs: Tensor,
    labels: Sequence[Tensor],
    unseen: Tensor,
    seed: int,
    classes: Sequence[int] | None = None,
) -> list[Tensor]:
    """Fit one linear classifier per label tensor and return its logits on ``unseen``."""
    sizes = list(classes or [len(values) for values in ATTRIBUTES.values()])
    rng = torch.Generator().manual_seed(seed)
    mean, std = inputs.mean(dim=0), inputs.std(dim=0) + 1e-5
    inputs, unseen = (inputs - mean) / std, (unseen - mean) / std
    layer = _zero_linear(inputs.shape[1], sum(sizes))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(_STEPS):
        _cool(optimizer, 3e-3, step)
        batch = torch.randint(len(inputs), (_BATCH,), generator=rng)
        scores = layer(inputs[batch]).split(sizes, dim=1)
        losses = [
            functional.cross_entropy(s, label[batch])
            for s, label in zip(scores, labels, strict=True)
        ]
        _descend(optimizer, torch.stack(losses).sum())
    with torch.no_grad():
        return list(layer(unseen).split(sizes, dim=1))


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
    rng = torch.Generator().manual_seed(seed)
    layer = _zero_linear(train.shape[2], len(COLORS))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(_STEPS):
        _cool(optimizer, 1e-2, step)
        batch = torch.randint(len(picture), (_BATCH // 4,), generator=rng)
        found = _expected(layer, train[picture[batch]], color[batch])
        _descend(optimizer, (found - place[batch]).norm(dim=1).mean())
    picture, color, place = named_by_color(test_scenes)
    with torch.no_grad():
        found = _expected(layer, test[picture], color)
    return float((found - place).norm(dim=1).mean())


def _expected(layer: nn.Linear, patches: Tensor, color: Tensor) -> Tensor:
    """Return the expected (x, y) in pixels under the softmax of the colour's patch scores."""
    grid = int(patches.shape[1] ** 0.5)
    scores = layer(patches).gather(2, color[:, None, None].expand(-1, patches.shape[1], 1))
    centres = (torch.arange(grid) + 0.5) * (IMAGE_SIZE / grid)
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    weights = scores.squeeze(2).softmax(dim=1)
    return weights @ torch.stack([x.flatten(), y.flatten()], dim=1)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _cool(optimizer: torch.optim.Optimizer, rate: float, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * (1 - step / _STEPS)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
