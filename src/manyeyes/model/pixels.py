"""Decoded images to the encoders' normalised pixels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manyeyes.encoders import PixelTransform
from manyeyes.images.reading import fit_image

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Pixels:
    """The pixel transforms of a model's encoders.

    ``encoders``: a processor's saved entries. ``geometry``, ``pad_color``: see ``ManyEyesConfig``.
    """

    encoders: Sequence[Mapping[str, Any]]
    geometry: str
    pad_color: Sequence[int]

    @property
    def fused(self) -> list[str]:
        """Names of the encoders that the fusion reads."""
        return [encoder["name"] for encoder in self.encoders if encoder.get("fused", True)]

    def __call__(
        self, images: Sequence[Image.Image], only: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Return ``pixel_values_<encoder>`` ``[images, 3, height, width]`` of decoded images.

        ``only``: of these encoders.
        """
        return {
            f"pixel_values_{encoder['name']}": to_pixels(
                images, saved_rule(encoder), self.geometry, self.pad_color
            )
            for encoder in self.encoders
            if only is None or encoder["name"] in only
        }


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
    height, width = rule.size
    mean = np.asarray(rule.mean, dtype=np.float32)
    std = np.asarray(rule.std, dtype=np.float32)
    red, green, blue = pad_color
    batch = np.empty((len(images), 3, height, width), dtype=np.float32)
    for index, image in enumerate(images):
        fitted = fit_image(
            image,
            height,
            geometry=rule.geometry or geometry,
            color=(red, green, blue),
            resample=_RESAMPLING[rule.resample],
        )
        pixels = np.asarray(fitted, dtype=np.float32)[..., :: -1 if rule.bgr else 1] / 255.0
        batch[index] = ((pixels - mean) / std).transpose(2, 0, 1)
    return torch.from_numpy(batch)
