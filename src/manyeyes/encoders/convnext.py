"""ConvNeXt, ConvNeXt V2 and DINOv3's ConvNeXt: maps of four stages at strides 4, 8, 16, 32."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2Model,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from manyeyes.encoders.contract import side_of
from manyeyes.encoders.maps import MapEncoder, MapSize


class ConvNextEncoder(MapEncoder):
    """``ConvNextModel``: level 0 is the stem's map, level i that of stage i."""

    model_class: ClassVar[type[PreTrainedModel]] = ConvNextModel
    config_class: ClassVar[type[PreTrainedConfig]] = ConvNextConfig
    normalization = "imagenet"
    interpolates = False

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        widths, patch = config.hidden_sizes, side_of(config.patch_size)
        stages = [(int(width), patch * 2**stage) for stage, width in enumerate(widths)]
        return (stages[0], *stages)


class ConvNextV2Encoder(ConvNextEncoder):
    """``ConvNextV2Model``."""

    model_class = ConvNextV2Model
    config_class = ConvNextV2Config


class Dinov3ConvNextEncoder(ConvNextEncoder):
    """``DINOv3ConvNextModel``: level 0 is the pixels; the final norm reads the last stage."""

    model_class = DINOv3ConvNextModel
    config_class = DINOv3ConvNextConfig
    resize = "bilinear"

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        stages = [(int(width), 4 * 2**stage) for stage, width in enumerate(config.hidden_sizes)]
        return ((int(config.num_channels), 1), *stages)

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layer_norm(states)
