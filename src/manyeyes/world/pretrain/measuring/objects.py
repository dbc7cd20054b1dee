"""Objects of scenes as rows: their places, and labels to predict. Shapes: M objects of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
