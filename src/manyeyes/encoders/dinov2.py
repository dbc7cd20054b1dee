"""DINOv2 without and with registers. Hidden states are taken before the final LayerNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from manyeyes.encoders.contract import GridEncoder


class Dinov2Encoder(GridEncoder):
    """``Dinov2Model``: one class token, then patches; interpolates its positions by itself."""

    model_class: ClassVar[type[PreTrainedModel]] = Dinov2Model
    config_class: ClassVar[type[PreTrainedConfig]] = Dinov2Config
    normalization = "imagenet"
    arguments: ClassVar[Mapping[str, Any]] = {}

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)


class Dinov2RegistersEncoder(Dinov2Encoder):
    """``Dinov2WithRegistersModel``: the class token, four registers, then patches."""

    model_class = Dinov2WithRegistersModel
    config_class = Dinov2WithRegistersConfig

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 1 + int(config.num_register_tokens)
