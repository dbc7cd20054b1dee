"""DINOv2 without and with registers, and Depth Anything's copy of it.

Hidden states are taken before the final LayerNorm.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import (
    DepthAnythingConfig,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from manyeyes.checkpoints import hub
from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.errors import PartError


class Dinov2Encoder(GridEncoder):
    """``Dinov2Model``: one class token, then patches; interpolates its positions by itself."""

    model_class: ClassVar[type[PreTrainedModel]] = Dinov2Model
    config_class: ClassVar[type[PreTrainedConfig]] = Dinov2Config
    normalization = "imagenet"
    interpolates = False

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)


class Dinov2RegistersEncoder(Dinov2Encoder):
    """``Dinov2WithRegistersModel``: the class token, four registers, then patches."""

    model_class = Dinov2WithRegistersModel
    config_class = Dinov2WithRegistersConfig

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 1 + int(config.num_register_tokens)


class DepthAnythingEncoder(Dinov2Encoder):
    """DINOv2 as Depth Anything (arXiv 2401.10891, 2406.09414) trained it on, without its decoder.

    Raises:
        PartError: a checkpoint that stands on something other than DINOv2.
    """

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        if spec.backbone:
            return super().read_config(spec)
        whole: Any = hub.load_config(spec.checkpoint, DepthAnythingConfig)
        if not isinstance(whole.backbone_config, Dinov2Config):
            raise PartError(
                f"encoder {spec.name!r}: {spec.checkpoint!r} stands on "
                f"{type(whole.backbone_config).__name__}, not on DINOv2"
            )
        return whole.backbone_config
