"""V-JEPA 2 (arXiv 2506.09985): a video tower, here on single images as clips of one tubelet."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, VJEPA2Config, VJEPA2Model

from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec


class VJepa2Tower(VJEPA2Model):
    """``VJEPA2Model`` without its predictor, which only training reads."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        del self.predictor

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the tower alone."""
        return super().forward(*args, **{**kwargs, "skip_predictor": True})


class VJepa2Encoder(GridEncoder):
    """Patches of an image that is repeated over one tubelet (ours), without a class token.

    Its rotary positions count in rows of the configured size, so the tower is built for the size
    that the recipe asks for.
    """

    model_class = VJepa2Tower
    config_class = VJEPA2Config
    normalization = "imagenet"
    resize = "bilinear"

    @classmethod
    def prepare(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PreTrainedConfig:
        config = copy.deepcopy(config)
        config.crop_size = cls.image_size(spec, config)
        return config

    @classmethod
    def own_image_size(cls, config: PreTrainedConfig) -> int:
        return int(config.crop_size)

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        frames = int(self.backbone.config.tubelet_size)
        clip = pixels[:, None].expand(-1, frames, -1, -1, -1)
        return self.backbone(pixel_values_videos=clip, output_hidden_states=True).hidden_states

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.encoder.layernorm(states)
