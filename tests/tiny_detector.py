"""A detector of a few parameters behind the encoder contract: one object per 8 x 8 pixels.

It stands where a real detector family will: pixels to ``ObjectFeatures``, with class and box heads
that are linear in the object descriptors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

import tiny
from manyeyes.encoders import EncoderSpec, ObjectShape, PixelTransform
from manyeyes.records import ObjectFeatures

OBJECTS, WIDTH, LABELS = 4, 8, ("red", "blue")


class TinyDetector(nn.Module):
    """Descriptors ``[I, 4, 8]``, boxes ``[I, 4, 4]`` and logits ``[I, 4, 3]`` (last: none)."""

    def __init__(self, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = nn.Conv2d(3, WIDTH, kernel_size=8, stride=8)
        self.class_head = nn.Linear(WIDTH, len(LABELS) + 1)
        self.box_head = nn.Linear(WIDTH, 4)

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        return PreTrainedConfig()

    @classmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> ObjectShape:
        return ObjectShape(WIDTH, OBJECTS)

    @classmethod
    def transform(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PixelTransform:
        side, half = tiny.IMAGE_SIZE, (0.5, 0.5, 0.5)
        return PixelTransform((side, side), half, half, "bilinear")

    def pretrained_parts(self) -> dict[str, Any]:
        return {"backbone": self.backbone}

    def forward(self, pixels: Tensor, **unused: Any) -> ObjectFeatures:
        queries = self.backbone(pixels.to(self.backbone.weight.dtype)).flatten(2).transpose(1, 2)
        logits, boxes = self.heads(queries)
        return ObjectFeatures(queries, boxes, logits, LABELS)

    def heads(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        return self.class_head(queries), torch.sigmoid(self.box_head(queries))


def block(parts: Any, *, detector: bool = True, **fusion: Any) -> dict[str, Any]:
    """Changes to the tiny model block: CLIP's tokens and the detector's objects as prompts."""
    clip = {
        "name": "clip",
        "family": "clip",
        "checkpoint": str(parts / "clip"),
        "levels": [3],
        "final_norm": True,
        "keep_prefix": True,
    }
    small = {"name": "shared_queries", "queries": 4, "width": 16, "heads": 4, "visual_depth": 2}
    found = [{"name": "detector", "family": "tiny_detector"}] if detector else []
    return {
        "encoders": [clip, *found],
        "fusion": {**small, **fusion},
        "bridge": {"name": "adapter_prompts"},
    }
