"""The four outlines as pixel masks. A mask is ``[2R + 1, 2R + 1]`` with R the radius in pixels."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from manyeyes.world.scene import Shape, Size

RADII: dict[Size, tuple[int, int]] = {"small": (5, 6), "large": (8, 9)}
"""Smallest and largest radius of each size, in pixels, both included."""

Mask = NDArray[np.bool_]

MARK_HALF = 2
"""Half extent of a mark: it fills at most a 5 x 5 window."""


def mark_drop(shape: Shape, radius: int) -> int:
    """Return how far below the centre the mark sits: a triangle is too narrow at its centre."""
    return radius // 3 if shape == "triangle" else 0


@cache
def outline(shape: Shape, radius: int) -> Mask:
    """Return the read-only mask of ``shape``; its outline touches all four edges of the array."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    if shape == "circle":
        mask = dx**2 + dy**2 <= (radius + 0.3) ** 2
    elif shape == "square":
        mask = np.ones_like(dx, dtype=bool)
    elif shape == "triangle":
        mask = 2 * np.abs(dx) <= dy + radius
    else:
        arm = (radius + 1) // 3
        mask = (np.abs(dx) <= arm) | (np.abs(dy) <= arm)
    mask = np.asarray(mask, dtype=bool)
    mask.setflags(write=False)
    return mask
