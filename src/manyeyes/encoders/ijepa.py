"""I-JEPA (arXiv 2301.08243): patches only, trained to predict features of hidden patches."""

from __future__ import annotations

from torch import Tensor
from transformers import IJepaConfig, IJepaModel, PreTrainedConfig

from manyeyes.encoders.contract import GridEncoder


class IJepaEncoder(GridEncoder):
    """``IJepaModel``: it has no class token."""

    model_class = IJepaModel
    config_class = IJepaConfig
    normalization = "imagenet"

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)
