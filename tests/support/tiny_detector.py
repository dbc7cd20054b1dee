"""A tiny DETR, and the ``model:`` block of CLIP's tokens and its objects as adapter prompts.

It sees 32 x 32 pixels as 8 x 8 places and gives four objects of width 16, of two classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

OBJECTS, WIDTH, LABELS = 4, 16, ("red", "blue")


def config(labels: tuple[str, ...] = LABELS) -> DetrConfig:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", out_features=["stage1"]
    )
    return DetrConfig(
        backbone_config=backbone,
        backbone=None,
        use_timm_backbone=False,
        d_model=WIDTH,
        num_queries=OBJECTS,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        dropout=0.0,
        image_size=32,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )


def save_detector(folder: Path, *, labels: tuple[str, ...] = LABELS, seed: int = 5) -> Path:
    """Save a random DETR whose objects differ from each other and from image to image."""
    torch.manual_seed(seed)
    model = DetrForObjectDetection(config(labels))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and ".backbone." not in name:
                parameter.normal_(std=0.25)
    model.save_pretrained(folder)
    return folder


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
    if detector and not (parts / "detr" / "config.json").is_file():
        save_detector(parts / "detr")
    found = {"name": "detector", "family": "detr", "checkpoint": str(parts / "detr")}
    return {
        "encoders": [clip, found] if detector else [clip],
        "fusion": {**small, **fusion},
        "bridge": {"name": "adapter_prompts"},
    }
