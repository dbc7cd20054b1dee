"""Size of every shipped vision encoder: 48 x 48 pixels, 6-pixel patches, 6 blocks of width 128."""

from __future__ import annotations

from manyeyes.world.sample import IMAGE_SIZE

WIDTH, LAYERS, HEADS = 128, 6, 4
PATCH = 6
"""Patch side in pixels. Four-pixel patches read no more in the same time (see ``gate``)."""

PATCHES = (IMAGE_SIZE // PATCH) ** 2
