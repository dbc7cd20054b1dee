"""Swin and Swin V2: window attention in four stages.

Level 0 is the embedding, level i what stage i hands to the next one: halved and widened, but for
the last stage, which ends where it is.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    SwinConfig,
    SwinModel,
    Swinv2Config,
    Swinv2Model,
)

from manyeyes.encoders.contract import side_of
from manyeyes.encoders.maps import MapEncoder, MapSize


class SwinEncoder(MapEncoder):
    """``SwinModel`` without its pooler."""

    model_class: ClassVar[type[PreTrainedModel]] = SwinModel
    config_class: ClassVar[type[PreTrainedConfig]] = SwinConfig
    normalization = "imagenet"

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        width, patch, stages = int(config.embed_dim), side_of(config.patch_size), len(config.depths)
        halved = [min(level, stages - 1) for level in range(stages + 1)]
        return tuple((width * 2**times, patch * 2**times) for times in halved)

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.output(pixels).reshaped_hidden_states)

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)


class SwinV2Encoder(SwinEncoder):
    """``Swinv2Model``."""

    model_class = Swinv2Model
    config_class = Swinv2Config
