"""A tiny configuration of every detector family, and encoders over them with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    ConditionalDetrConfig,
    DabDetrConfig,
    DeformableDetrConfig,
    DetrConfig,
    DFineConfig,
    HGNetV2Config,
    PreTrainedConfig,
    ResNetConfig,
    RTDetrConfig,
    RTDetrResNetConfig,
    RTDetrV2Config,
    YolosConfig,
)

from manyeyes.encoders import ENCODERS, DetectorEncoder, parse_encoder

SIDE, QUERIES = 64, 12
LABELS = {"id2label": {0: "cup", 1: "red cross", 2: "dog"}, "label2id": {"cup": 0}}


def resnet(*stages: str) -> ResNetConfig:
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=list(stages)
    )


def detr(backbone: PreTrainedConfig, **changes: Any) -> dict[str, Any]:
    return {
        "backbone_config": backbone,
        "backbone": None,
        "use_timm_backbone": False,
        "d_model": 32,
        "num_queries": QUERIES,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        **LABELS,
        **changes,
    }


def dab() -> dict[str, Any]:
    fields = detr(resnet("stage4"), hidden_size=32)
    return {k: v for k, v in fields.items() if k not in ("d_model", "use_timm_backbone")}


def real_time(**changes: Any) -> dict[str, Any]:
    stages = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=stages
    )
    return {
        "backbone_config": backbone,
        "d_model": 32,
        "num_queries": QUERIES,
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [8, 16, 16],
        "decoder_in_channels": [32, 32, 32],
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "decoder_layers": 2,
        "hidden_expansion": 0.5,
        **LABELS,
        **changes,
    }


def d_fine() -> DFineConfig:
    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 16, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 16],
        out_features=["stage2", "stage3", "stage4"],
        use_learnable_affine_block=True,
    )
    fields = real_time(backbone_config=backbone, encoder_in_channels=[16, 16, 16])
    return DFineConfig(**fields, max_num_bins=4, num_feature_levels=3, decoder_n_points=[2, 2, 2])


def configs() -> dict[str, PreTrainedConfig]:
    levels = {"num_feature_levels": 2, "encoder_n_points": 2, "decoder_n_points": 2}
    return {
        "detr": DetrConfig(**detr(resnet("stage4"))),
        "conditional_detr": ConditionalDetrConfig(**detr(resnet("stage4"))),
        "dab_detr": DabDetrConfig(**dab()),
        "deformable_detr": DeformableDetrConfig(
            **detr(resnet("stage3", "stage4"), with_box_refine=True, **levels)
        ),
        "rt_detr": RTDetrConfig(**real_time()),
        "rt_detr_v2": RTDetrV2Config(**real_time()),
        "d_fine": d_fine(),
        "yolos": YolosConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=[SIDE, SIDE],
            patch_size=16,
            num_detection_tokens=QUERIES,
            **LABELS,
        ),
    }


CONFIGS = configs()
SOFTMAX = ("detr", "yolos")
WITHOUT_BOXES = ("d_fine",)
FLOAT32_ONLY = ("dab_detr",)
"""transformers builds its position embeddings in float32 whatever the weights are in."""
FAMILIES = sorted(CONFIGS)


def build(family: str, **fields: Any) -> DetectorEncoder:
    torch.manual_seed(0)
    spec = parse_encoder({"name": "found", "family": family, "image_size": SIDE, **fields})
    config = type(CONFIGS[family])(**CONFIGS[family].to_dict())
    encoder: Any = ENCODERS[family](spec, config)
    for name, parameter in encoder.named_parameters():  # heads start where all boxes are alike
        if parameter.ndim >= 2 and "backbone.model.backbone" not in name:
            torch.nn.init.normal_(parameter, std=0.15)
    found: DetectorEncoder = encoder.eval()
    return found
