"""The image tower of TIPSv2: image–text contrast and masked patches together."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig, Tipsv2VisionConfig, Tipsv2VisionModel

from manyeyes.encoders.contract import GridEncoder


class Tipsv2Encoder(GridEncoder):
    """``Tipsv2VisionModel``: two class tokens, of web texts and of made captions, then patches.

    Pixels stay in 0..1.
    """

    model_class = Tipsv2VisionModel
    config_class = Tipsv2VisionConfig
    normalization = "none"
    resize = "bilinear"
    interpolates = False

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 1 + int(config.num_register_tokens)

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)
