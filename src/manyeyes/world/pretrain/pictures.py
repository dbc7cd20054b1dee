"""Endless training pictures, rendered on the fly, as normalised tensors ``[B, 3, H, W]``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyeyes.encoders.spec import NORMALIZATIONS
from manyeyes.world.render import render_batch
from manyeyes.world.sample import IMAGE_SIZE, sample_scene
from manyeyes.world.scene import Scene


def scene_batch(split: str, step: int, size: int, seed: int) -> list[Scene]:
    """Return scenes ``step * size`` to ``(step + 1) * size - 1`` of ``split``."""
    return [sample_scene(split, index, seed) for index in range(step * size, (step + 1) * size)]


def to_tensor(pictures: NDArray[np.uint8], normalization: str) -> Tensor:
    """Turn uint8 ``[B, H, W, 3]`` into float32 ``[B, 3, H, W]``, normalised as named."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in NORMALIZATIONS[normalization])
    return ((pixels - mean) / std).contiguous()


def picture_batch(scenes: Sequence[Scene], normalization: str) -> Tensor:
    """Render equally large scenes as float32 ``[B, 3, H, W]``, normalised as named."""
    return to_tensor(render_batch(scenes), normalization)


def preprocessor_config(processor: str, normalization: str) -> dict[str, object]:
    """Return the settings with which the image processor class does what ``to_tensor`` does.

    Pictures of another size are resized bilinearly to the world's 48 x 48.
    """
    mean, std = NORMALIZATIONS[normalization]
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return {
        "image_processor_type": processor,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side,
        "resample": 2,
        "do_center_crop": False,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
