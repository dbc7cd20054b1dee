"""AIMv2 (arXiv 2411.14402): an autoregressive ViT with RMS norms and no class token."""

from __future__ import annotations

from torch import Tensor
from transformers import Aimv2VisionConfig, Aimv2VisionModel, PreTrainedConfig

from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.errors import PartError


class Aimv2Encoder(GridEncoder):
    """``Aimv2VisionModel``; only its "native" checkpoints take other sizes than their own."""

    model_class = Aimv2VisionModel
    config_class = Aimv2VisionConfig
    normalization = "clip"
    interpolates = False

    @classmethod
    def prepare(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PreTrainedConfig:
        config.use_head = False
        return config

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    @classmethod
    def image_size(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        size, own = super().image_size(spec, config), cls.own_image_size(config)
        if size != own and not config.is_native:
            raise PartError(
                f"encoder {spec.name!r}: image_size {size}, but the positions of this AIMv2 are "
                f"learned for {own}; leave image_size out, or take a native checkpoint "
                "(apple/aimv2-large-patch14-native)"
            )
        return size

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.rms_norm(states)
