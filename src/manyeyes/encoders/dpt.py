"""DPT (arXiv 2103.13413): the ViT that was trained for depth, without its decoder."""

from __future__ import annotations

from torch import Tensor
from transformers import DPTConfig, DPTModel, PreTrainedConfig

from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.errors import PartError


class DptTower(DPTModel):
    """``DPTModel`` without its pooler, which depth checkpoints do not hold."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__(config, add_pooling_layer=False)


class DptEncoder(GridEncoder):
    """``DPTModel``: one class token, then patches; interpolates its positions by itself.

    Raises:
        PartError: a checkpoint that has another backbone than its own ViT.
    """

    model_class = DptTower
    config_class = DPTConfig
    normalization = "half"
    interpolates = False

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        config = super().read_config(spec)
        if config.is_hybrid or config.backbone_config is not None:
            raise PartError(
                f"encoder {spec.name!r}: this DPT stands on another backbone than its own ViT "
                "(is_hybrid, backbone_config); take a checkpoint like Intel/dpt-large, or the "
                "family of that backbone"
            )
        return config

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)
