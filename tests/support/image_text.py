"""Tiny Q-Formers and X-Formers, their features and texts; shared by several test files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manyeyes.encoders import GridShape
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.image_text import ImageTextFusion
from manyeyes.records import FusionText, GridFeatures, Masking

VOCABULARY = 40
DECODE = VOCABULARY - 1
GRID, PATCHES = (2, 4), 8
IMAGE_WIDTH, LOCAL_WIDTH = 12, 20
SMALL: dict[str, Any] = {
    "queries": 5,
    "width": 16,
    "layers": 4,
    "heads": 4,
    "ffn": 32,
    "max_positions": 32,
    "text_length": 16,
    "contrast_width": 8,
    "vocab_size": VOCABULARY,
    "text": "caption",
    "dropout": 0.0,
}
SHAPES = {
    "clip": GridShape(IMAGE_WIDTH, GRID, (2,), 1),
    "mae": GridShape(LOCAL_WIDTH, GRID, (2,), 1),
}


def build(name: str = "qformer", out_width: int = 6, **options: Any) -> ImageTextFusion:
    """A fusion in eval() whose biases and norms are not at their neutral start."""
    shapes = {"clip": SHAPES["clip"]} if name == "qformer" else SHAPES
    cls, parsed = parse_fusion({"name": name, **SMALL, **options})
    cls.check(parsed, shapes)
    torch.manual_seed(0)
    make: Any = cls
    fusion = make(parsed, shapes, out_width)
    assert isinstance(fusion, ImageTextFusion)
    unsettle(fusion)
    return fusion.eval()


@torch.no_grad()
def unsettle(module: torch.nn.Module, scale: float = 0.2) -> None:
    """Move every parameter, so that no zero or one hides an error; the temperature stays."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in module.named_parameters():
        if not name.endswith("temperature"):
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def bundle(
    images: int = 3, *, seed: int = 0, hidden: int = 0, local: bool = True
) -> dict[str, GridFeatures]:
    """Random features; ``hidden`` patches of the local encoder are masked."""
    generator = torch.Generator().manual_seed(seed)

    def features(width: int, patches: int, masking: Masking | None) -> GridFeatures:
        level = torch.randn(images, patches, width, generator=generator)
        prefix = torch.randn(images, 1, width, generator=generator)
        return GridFeatures((level,), (2,), GRID, (prefix,), masking)

    found = {"clip": features(IMAGE_WIDTH, PATCHES, None)}
    if local:
        order = torch.stack([torch.randperm(PATCHES, generator=generator) for _ in range(images)])
        restore = order.argsort(dim=1)
        masking = Masking((restore >= PATCHES - hidden).float(), restore) if hidden else None
        found["mae"] = features(LOCAL_WIDTH, PATCHES - hidden, masking)
    return found


def text(rows: int = 3, length: int = 6, *, seed: int = 0) -> FusionText:
    """Random texts of different lengths; token 1 first, token 2 last, 0 pads."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, DECODE, (rows, length), generator=generator)
    lengths = [length - row % 3 for row in range(rows)]
    mask = torch.zeros(rows, length, dtype=torch.long)
    for row, end in enumerate(lengths):
        ids[row, 0], ids[row, end - 1], ids[row, end:] = 1, 2, 0
        mask[row, :end] = 1
    return FusionText(ids, mask)


def edited(given: FusionText, column: int) -> FusionText:
    """The same texts with another token in one column."""
    ids = given.ids.clone()
    ids[:, column] = (ids[:, column] - 3 + 1) % (DECODE - 3) + 3
    return FusionText(ids, given.mask)


def largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max().detach())
