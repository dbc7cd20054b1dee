"""MAE's encoder on the whole image: nothing masked, patches in raster order."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedConfig, ViTMAEConfig, ViTMAEModel

from manyeyes.encoders.contract import GridEncoder


class MaeEncoder(GridEncoder):
    """``ViTMAEModel`` with ``mask_ratio`` 0 and ascending noise; without them it shuffles."""

    model_class = ViTMAEModel
    config_class = ViTMAEConfig
    normalization = "imagenet"

    @classmethod
    def prepare(cls, config: PreTrainedConfig) -> PreTrainedConfig:
        config.mask_ratio = 0.0
        return config

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        patch = int(self.backbone.config.patch_size)
        patches = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
        noise = torch.arange(patches, device=pixels.device, dtype=torch.float32)
        return self.backbone(
            pixel_values=pixels,
            noise=noise.expand(pixels.shape[0], -1),
            output_hidden_states=True,
            interpolate_pos_encoding=True,
        ).hidden_states

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)
