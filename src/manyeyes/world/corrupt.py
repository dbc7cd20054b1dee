"""What the corner-case split does to a finished picture, in the spirit of CODA's corner cases.

Pictures are float32 ``[H, W, 3]`` in 0..255. ``odd_size`` changes only the picture's size, which
the sampler has already done. The strengths are ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyeyes.world.scene import Corruption

Picture = NDArray[np.float32]

_SPECKLES = 40
_FOG_GREY = 205.0


def corrupt(picture: Picture, corruption: Corruption, rng: np.random.Generator) -> Picture:
    """Return ``picture`` with ``corruption`` applied; ``rng`` decides its strength and place."""
    if corruption == "clutter":
        return _clutter(picture, rng)
    if corruption == "darkness":
        return picture * np.float32(rng.uniform(0.18, 0.4))
    if corruption == "fog":
        return _fog(picture, rng)
    if corruption == "noise":
        sigma = rng.uniform(20.0, 45.0)
        return picture + np.float32(sigma) * rng.standard_normal(picture.shape, dtype=np.float32)
    return picture


def _clutter(picture: Picture, rng: np.random.Generator) -> Picture:
    """Scatter 1- to 3-pixel speckles of random colours over the whole picture."""
    out = picture.copy()
    height, width = out.shape[:2]
    for _ in range(_SPECKLES):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        h, w = (int(v) for v in rng.integers(1, 3, size=2))
        out[y : y + h, x : x + w] = rng.uniform(0.0, 255.0, size=3)
    return out


def _fog(picture: Picture, rng: np.random.Generator) -> Picture:
    """Blend towards a light grey, more towards one side of the picture."""
    slope = np.linspace(0.4, 0.8, picture.shape[1], dtype=np.float32)[None, :, None]
    if rng.random() < 0.5:
        slope = slope[:, ::-1]
    return picture * (1 - slope) + np.float32(_FOG_GREY) * slope
