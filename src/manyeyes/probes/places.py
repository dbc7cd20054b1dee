"""Features read at places of a picture.

Shapes: B pictures, N = G x G patches, D width, M rows, W window side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 3
"""Side of the window in which linear probes read an object, in patches."""


def read_places(patches: Tensor, picture: Tensor, place: Tensor, window: int = 1) -> Tensor:
    """Read features at places (x, y) in -1..1 of the picture: ``[B, N, D]`` -> ``[M, W * W * D]``.

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


def patch_centres(patches: int) -> Tensor:
    """Return the centres (x, y) ``[N, 2]`` of a square grid's patches, in 0..1 of the picture."""
    grid = int(patches**0.5)
    centres = (torch.arange(grid) + 0.5) / grid
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)
