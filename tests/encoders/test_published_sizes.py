"""Published checkpoints at real size, on the meta device: as many parameters as timm's own models.

The configurations are those of the checkpoints' files. The sizes are those of timm 1.0.31's models
of the same checkpoints, ``create_model(name, num_classes=0)``: another implementation, whose
authors converted the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from manyeyes.encoders import ENCODERS, parse_encoder


def vit(width: int, blocks: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        **more,
    }


def hiera(width: int, blocks: Sequence[int], heads: int, whole: Sequence[int]) -> dict[str, Any]:
    widths, many = ([first * 2**stage for stage in range(4)] for first in (width, heads))
    tower = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": width,
        "blocks_per_stage": blocks,
        "embed_dim_per_stage": widths,
        "num_attention_heads": heads,
        "num_attention_heads_per_stage": many,
        "global_attention_blocks": whole,
    }
    return {"backbone_config": tower, "backbone_channel_list": widths[::-1]}


PUBLISHED: dict[str, tuple[str, dict[str, Any], int]] = {
    "apple/aimv2-large-patch14-224": ("aimv2", vit(1024, 24, 8, 2816), 309_197_824),
    "apple/aimv2-huge-patch14-224": ("aimv2", vit(1536, 24, 12, 4096), 680_851_968),
    "apple/aimv2-1B-patch14-224": ("aimv2", vit(2048, 24, 16, 5632), 1_234_958_336),
    "facebook/convnext-tiny-224": ("convnext", {"num_stages": 4}, 27_820_128),
    "facebook/convnext-large-224": (
        "convnext",
        {"depths": [3, 3, 27, 3], "hidden_sizes": [192, 384, 768, 1536]},
        196_230_336,
    ),
    "facebook/convnextv2-tiny-1k-224": ("convnextv2", {"num_stages": 4}, 27_866_496),
    "facebook/dinov3-convnext-tiny-pretrain-lvd1689m": (
        "dinov3_convnext",
        {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
        27_820_128,
    ),
    "facebook/ijepa_vith14_1k": ("ijepa", vit(1280, 32, 16, 5120, patch_size=14), 630_762_240),
    "facebook/metaclip-2-worldwide-huge-quickgelu": (
        "metaclip_2",
        vit(1280, 32, 16, 5120, patch_size=14),
        630_766_080,
    ),
    "facebook/sam-vit-base": ("sam_neck", vit(768, 12, 12, 3072), 89_670_912),
    "facebook/sam-vit-huge": (
        "sam_neck",
        vit(1280, 32, 16, 5120, global_attn_indexes=[7, 15, 23, 31]),
        637_026_048,
    ),
    "facebook/sam2.1-hiera-tiny": ("sam2", hiera(96, [1, 2, 7, 2], 1, [5, 7, 9]), 26_851_008),
    "facebook/sam2.1-hiera-small": ("sam2", hiera(96, [1, 2, 11, 2], 1, [7, 10, 13]), 33_948_864),
    "microsoft/swin-tiny-patch4-window7-224": ("swin", {"window_size": 7}, 27_519_354),
    "microsoft/swinv2-tiny-patch4-window8-256": (
        "swinv2",
        {"image_size": 256, "window_size": 8},
        27_578_154,
    ),
    "google/tipsv2-b14": ("tipsv2", {"image_size": 448}, 86_314_752),
}


def of_timm(family: str, backbone: Any) -> int:
    """Parameters of the tower as timm has it."""
    size = sum(parameter.numel() for parameter in backbone.parameters())
    if family == "sam2":  # timm leaves out the neck, and adds a norm before its head
        width = backbone.config.backbone_config.embed_dim_per_stage[-1]
        return size - sum(p.numel() for p in backbone.neck.parameters()) + 2 * width
    if family == "tipsv2":  # it leaves out the mask token and the position of the class token
        return size - 2 * int(backbone.config.hidden_size)
    return size


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_has_its_size(name: str) -> None:
    family, fields, size = PUBLISHED[name]
    fields = {"name": "eye", "family": family, "backbone": fields, "levels": [-1]}
    spec, cls = parse_encoder(fields), ENCODERS[family]
    with torch.device("meta"):
        encoder = cls(spec, cls.read_config(spec))
    assert of_timm(family, encoder.backbone) == size
