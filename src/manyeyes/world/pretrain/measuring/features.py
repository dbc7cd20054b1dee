"""Features of a shipped encoder for probing, and what they are compared with.

A source is a function from pictures to a list of levels, each ``[B, N, D]`` over the 8 x 8 patches.
Besides the trained parts there are raw patch pixels and a ViT with random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    CLIPModel,
    CLIPVisionModel,
    Dinov2Model,
    PreTrainedModel,
    ViTMAEForPreTraining,
    ViTMAEModel,
)

from manyeyes.errors import UsageError, nearest
from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.pictures import to_tensor
from manyeyes.world.pretrain.sizes import PATCH, PATCHES, vision_config

Source = Callable[[NDArray[np.uint8]], list[Tensor]]

_CHUNK = 256
_NORMALIZATION = {"clip": "clip", "dinov2": "imagenet", "mae": "imagenet"}


def part_source(part: str, folder: Path) -> Source:
    """Return the source of the trained part in ``folder``: seven levels, 0 = patch embedding.

    Raises ``UsageError`` for a part that is not a vision encoder.
    """
    if part not in _NORMALIZATION:
        known = ", ".join(_NORMALIZATION)
        hint = nearest(part, _NORMALIZATION)
        raise UsageError(f"no vision encoder {part!r}: expected one of {known}{hint}")
    return _tower_source(_load_tower(part, folder), _NORMALIZATION[part])


def _load_tower(part: str, folder: Path) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if part == "clip":
        tower: PreTrainedModel = CLIPModel.from_pretrained(folder, **options).vision_model
        return tower
    if part == "dinov2":
        return Dinov2Model.from_pretrained(folder, **options)
    whole = ViTMAEForPreTraining.from_pretrained(folder, mask_ratio=0.0, **options)
    encoder: PreTrainedModel = whole.vit
    return encoder


def random_source(seed: int) -> Source:
    """Return the source of a CLIP-type image tower that has learnt nothing."""
    torch.manual_seed(seed)
    return _tower_source(CLIPVisionModel(vision_config()), "clip")


def pixel_source(pictures: NDArray[np.uint8]) -> list[Tensor]:
    """Return one level: each patch's raw pixels, ``[B, N, 3 * PATCH * PATCH]``."""
    pixels = to_tensor(pictures, "half")
    patches = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
    return [patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)]


def _tower_source(tower: PreTrainedModel, normalization: str) -> Source:
    tower.eval()
    tower.set_attn_implementation("eager")
    order = torch.arange(PATCHES, dtype=torch.float32)

    @torch.no_grad()
    def source(pictures: NDArray[np.uint8]) -> list[Tensor]:
        chunks = []
        for start in range(0, len(pictures), _CHUNK):
            pixels = to_tensor(pictures[start : start + _CHUNK], normalization)
            extra = {}
            if isinstance(tower, ViTMAEModel):
                extra["noise"] = order.expand(len(pixels), -1)
            with autocast(CPU):
                out = tower(pixel_values=pixels, output_hidden_states=True, **extra)
            chunks.append([state[:, 1:].float() for state in out.hidden_states])
        return [torch.cat(level) for level in zip(*chunks, strict=True)]

    return source


def joined(levels: Sequence[Tensor]) -> Tensor:
    """Concatenate levels of the same pictures along the width: ``[B, N, D1 + D2 + ...]``."""
    return torch.cat(list(levels), dim=-1)
