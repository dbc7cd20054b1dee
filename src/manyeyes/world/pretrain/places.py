"""Objects as rows: labels to predict, and patch features read at the object's place.

Shapes: B pictures, N = G x G patches, D width, M objects of the whole batch, W window side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from manyeyes.world.scene import COLORS, MARKS, SHAPES, SIZES, TEXTURES, Scene

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "color": COLORS,
    "size": SIZES,
    "texture": TEXTURES,
    "mark": MARKS,
}
"""What is read off one object, with its classes in label order."""


@dataclass(frozen=True)
class ObjectRows:
    """All objects of a batch of scenes, scene by scene.

    ``picture`` ``[M]`` is the object's scene, ``place`` ``[M, 2]`` its centre (x, y) in -1..1 of
    the picture, ``labels`` ``[M]`` long per attribute.
    """

    picture: Tensor
    place: Tensor
    labels: dict[str, Tensor]


def object_rows(scenes: Sequence[Scene]) -> ObjectRows:
    """List the objects of ``scenes`` with their places and labels."""
    owners = [i for i, scene in enumerate(scenes) for _ in scene.objects]
    places = [
        ((2 * o.x + 1) / scene.width - 1, (2 * o.y + 1) / scene.height - 1)
        for scene in scenes
        for o in scene.objects
    ]
    labels = {
        name: torch.tensor([c.index(getattr(o, name)) for s in scenes for o in s.objects])
        for name, c in ATTRIBUTES.items()
    }
    return ObjectRows(torch.tensor(owners), torch.tensor(places), labels)


def read_places(patches: Tensor, picture: Tensor, place: Tensor, window: int = 1) -> Tensor:
    """Read features at each object's centre: ``[B, N, D]`` -> ``[M, W * W * D]``.

    Bilinear between patches; ``window`` W reads a W x W square of points one patch apart.
    """
    grid = int(patches.shape[1] ** 0.5)
    maps = patches.transpose(1, 2).unflatten(2, (grid, grid))
    steps = (torch.arange(window) - (window - 1) / 2) * (2.0 / grid)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)
    points = place[:, None, None, :] + offsets[None, None]
    read = functional.grid_sample(
        maps[picture].float(), points, align_corners=False, padding_mode="border"
    )
    return read.flatten(1)
