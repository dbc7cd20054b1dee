"""DINOv3 ViT: rotary positions, so any multiple of the patch size works."""

from __future__ import annotations

from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel, PreTrainedConfig

from manyeyes.encoders.contract import GridEncoder


class Dinov3Encoder(GridEncoder):
    """``DINOv3ViTModel``: the class token, registers, then patches."""

    model_class = DINOv3ViTModel
    config_class = DINOv3ViTConfig
    normalization = "imagenet"
    resize = "bilinear"
    interpolates = False

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 1 + int(config.num_register_tokens)

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.norm(states)
