"""SigLIP's image tower and SigLIP 2's: no class token; the pooling head is never read nor built."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec


class SiglipEncoder(GridEncoder):
    """``SiglipVisionModel``; fixed-resolution SigLIP 2 checkpoints are of this type too."""

    model_class: ClassVar[type[PreTrainedModel]] = SiglipVisionModel
    config_class: ClassVar[type[PreTrainedConfig]] = SiglipVisionConfig
    normalization = "half"

    @classmethod
    def prepare(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PreTrainedConfig:
        config.vision_use_head = False
        return config

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.post_layernorm(states)


class Siglip2Encoder(SiglipEncoder):
    """``Siglip2VisionModel`` ("naflex"): it reads flattened patches of any square size."""

    model_class = Siglip2VisionModel
    config_class = Siglip2VisionConfig
    resize = "bilinear"

    @classmethod
    def own_image_size(cls, config: PreTrainedConfig) -> int:
        return int(int(config.num_patches) ** 0.5) * int(config.patch_size)

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images, channels, height, width = pixels.shape
        patch = int(self.backbone.config.patch_size)
        rows, columns = height // patch, width // patch
        # the checkpoint's patch vector runs over row, column, channel
        patches = pixels.reshape(images, channels, rows, patch, columns, patch)
        patches = patches.permute(0, 2, 4, 3, 5, 1).reshape(images, rows * columns, -1)
        return self.backbone(
            pixel_values=patches,
            pixel_attention_mask=torch.ones(images, rows * columns, device=pixels.device).long(),
            spatial_shapes=torch.tensor([[rows, columns]] * images, device=pixels.device),
            output_hidden_states=True,
        ).hidden_states
