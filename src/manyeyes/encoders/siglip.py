"""SigLIP's image tower: no class token; the attention-pooling head is never read and not built."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig, SiglipVisionConfig, SiglipVisionModel

from manyeyes.encoders.contract import GridEncoder


class SiglipEncoder(GridEncoder):
    """``SiglipVisionModel``; fixed-resolution SigLIP 2 checkpoints are of this type too."""

    model_class = SiglipVisionModel
    config_class = SiglipVisionConfig
    normalization = "half"

    @classmethod
    def prepare(cls, config: PreTrainedConfig) -> PreTrainedConfig:
        config.vision_use_head = False
        return config

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.post_layernorm(states)
