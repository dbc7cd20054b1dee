"""CLIP's image tower, and that of MetaCLIP 2.

Hidden states are taken before ``post_layernorm``, which only feeds the pooled output.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    MetaClip2VisionConfig,
    MetaClip2VisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec


class ClipEncoder(GridEncoder):
    """``CLIPVisionModel``: one class token, then patches. Source: CLIP; COMM §1.1."""

    model_class: ClassVar[type[PreTrainedModel]] = CLIPVisionModel
    config_class: ClassVar[type[PreTrainedConfig]] = CLIPVisionConfig
    normalization = "clip"

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.post_layernorm(states)


class ClipProjectedEncoder(ClipEncoder):
    """CLIP with its visual projection: ``final_norm: true`` normalises *and* projects every token.

    Source: LLaMA-Adapter V2, whose scene tokens are CLIP's class and patch tokens in the space
    shared with text. Without ``final_norm`` it equals ``clip``.
    """

    model_class = CLIPVisionModelWithProjection

    @classmethod
    def width(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        return int(config.projection_dim if spec.final_norm else config.hidden_size)

    def last_norm(self, states: Tensor) -> Tensor:
        normed = self.backbone.vision_model.post_layernorm(states)
        return self.backbone.visual_projection(normed)


class MetaClip2Encoder(ClipEncoder):
    """``MetaClip2VisionModel``: CLIP trained on the world's languages (arXiv 2507.22062)."""

    model_class = MetaClip2VisionModel
    config_class = MetaClip2VisionConfig
