"""Decoded images to the encoders' normalised pixels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manyeyes.encoders import PixelTransform
from manyeyes.images.reading import fit_image
from manyeyes.images.tiling import cut_canvas, fit_canvas
from manyeyes.model.pictures.tiles import Tiles

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Pixels:
    """The pixel transforms of a model's encoders.

    ``encoders``: a processor's saved entries. ``geometry``, ``pad_color``: see ``ManyEyesConfig``.
    ``tiles``: how pictures are seen in tiles; None = every encoder sees the whole.
    """

    encoders: Sequence[Mapping[str, Any]]
    geometry: str
    pad_color: Sequence[int]
    tiles: Tiles | None = None

    @property
    def fused(self) -> list[str]:
        """Names of the encoders that the fusion reads."""
        return [encoder["name"] for encoder in self.encoders if encoder.get("fused", True)]

    def __call__(
        self, images: Sequence[Image.Image], only: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Return ``pixel_values_<encoder>`` ``[images, 3, height, width]`` of decoded images.

        ``only``: of these encoders. Of those that see tiles the pixels are of all images' tiles,
        the thumbnail of an image first; ``tile_grids`` and ``tile_views`` say which they are.
        """
        found = {
            f"pixel_values_{encoder['name']}": self._of(encoder, images)
            for encoder in self.encoders
            if only is None or encoder["name"] in only
        }
        return found if self.tiles is None else found | self.tiles.inputs(images, self.geometry)

    def _of(self, encoder: Mapping[str, Any], images: Sequence[Image.Image]) -> Tensor:
        rule, tiles = saved_rule(encoder), self.tiles
        if tiles is None or encoder["name"] not in tiles.encoders:
            return to_pixels(images, rule, self.geometry, self.pad_color)
        cut = [part for image in images for part in self._cut(image, rule, tiles)]
        return _normalised(cut, rule)

    def _cut(self, image: Image.Image, rule: PixelTransform, tiles: Tiles) -> list[Image.Image]:
        """A picture's tiles, the thumbnail first."""
        grid, side = tiles.grid(image.size), rule.size[0]
        whole = _fitted(image, rule, self.geometry, self.pad_color)
        if math.prod(grid) == 1:
            return [whole]
        red, green, blue = self.pad_color
        canvas = fit_canvas(
            image,
            (grid[1] * side, grid[0] * side),
            geometry=rule.geometry or self.geometry,
            color=(red, green, blue),
            resample=_RESAMPLING[rule.resample],
        )
        cut = cut_canvas(canvas, side)
        return [whole, *cut] if tiles.layout.thumbnail else cut


def saved_rule(encoder: Mapping[str, Any]) -> PixelTransform:
    """Return the rule in a processor's saved entry of an encoder."""
    rule: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in encoder.items()
        if key not in ("name", "fused")
    }
    return PixelTransform(**rule)


def to_pixels(
    images: Sequence[Image.Image],
    rule: PixelTransform,
    geometry: str,
    pad_color: Sequence[int],
) -> Tensor:
    """Make images square, resize and normalise them: ``[images, 3, height, width]`` in float32.

    ``geometry``: how they become square, unless the ``rule`` has its own.
    """
    return _normalised([_fitted(image, rule, geometry, pad_color) for image in images], rule)


def _fitted(
    image: Image.Image, rule: PixelTransform, geometry: str, pad_color: Sequence[int]
) -> Image.Image:
    red, green, blue = pad_color
    return fit_image(
        image,
        rule.size[0],
        geometry=rule.geometry or geometry,
        color=(red, green, blue),
        resample=_RESAMPLING[rule.resample],
    )


def _normalised(images: Sequence[Image.Image], rule: PixelTransform) -> Tensor:
    """Pictures of the right size as ``[images, 3, height, width]``."""
    height, width = rule.size
    mean = np.asarray(rule.mean, dtype=np.float32)
    std = np.asarray(rule.std, dtype=np.float32)
    batch = np.empty((len(images), 3, height, width), dtype=np.float32)
    for index, image in enumerate(images):
        pixels = np.asarray(image, dtype=np.float32)[..., :: -1 if rule.bgr else 1] / 255.0
        batch[index] = ((pixels - mean) / std).transpose(2, 0, 1)
    return torch.from_numpy(batch)
