"""Towers out of the files of whole models: the configuration and all weights are found there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Aimv2Config,
    Aimv2Model,
    ConvNextConfig,
    ConvNextForImageClassification,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedModel,
    Sam2Config,
    Sam2Model,
    SamConfig,
    SamModel,
    Swinv2Config,
    Swinv2ForImageClassification,
    Tipsv2Config,
    Tipsv2Model,
    VJEPA2Config,
    VJEPA2Model,
)

from manyeyes.checkpoints import hub
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.errors import PartError

VIT: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 16,
}
TEXT: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "max_position_embeddings": 8,
    "eos_token_id": 2,
}
HIERA: dict[str, Any] = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 4,
    "blocks_per_stage": [1, 1, 1, 1],
    "embed_dim_per_stage": [4, 8, 12, 16],
    "num_attention_heads_per_stage": [1, 1, 1, 2],
    "window_size_per_stage": [4, 2, 2, 2],
    "global_attention_blocks": [2],
    "window_positional_embedding_background_size": [2, 2],
    "image_size": [64, 64],
}
MASKS = {"hidden_size": 8, "mlp_dim": 8, "iou_head_hidden_dim": 8, "num_attention_heads": 2}
DEPTH = {"neck_hidden_sizes": [4, 4, 4, 4], "fusion_hidden_size": 4}


def whole(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    vision = {**VIT, "intermediate_size": 8, "projection_dim": 8}
    match family:
        case "aimv2":
            return Aimv2Model(Aimv2Config(vision_config=vision, text_config=TEXT))
        case "metaclip_2":
            return MetaClip2Model(MetaClip2Config(vision_config=vision, text_config=TEXT))
        case "tipsv2":
            return Tipsv2Model(Tipsv2Config(vision_config=VIT, text_config=TEXT))
        case "depth_anything":
            backbone = {**VIT, "model_type": "dinov2", "out_indices": [1, 2, 3, 4]}
            backbone |= {"reshape_hidden_states": False, "num_hidden_layers": 4}
            return DepthAnythingForDepthEstimation(
                DepthAnythingConfig(
                    backbone_config=backbone, reassemble_hidden_size=8, head_hidden_size=4, **DEPTH
                )
            )
        case "dpt":
            fields = {**VIT, **DEPTH, "intermediate_size": 8, "backbone_out_indices": [0, 0, 0, 0]}
            return DPTForDepthEstimation(DPTConfig(**fields))
        case "vjepa2":
            fields = {**VIT, "crop_size": 16, "frames_per_clip": 2, "hidden_size": 12}
            fields |= {"pred_hidden_size": 12, "pred_num_attention_heads": 2}
            return VJEPA2Model(VJEPA2Config(pred_num_hidden_layers=1, **fields))
        case "sam" | "sam_neck":
            tower = {**VIT, "output_channels": 8, "num_pos_feats": 4, "window_size": 2}
            prompts = {"hidden_size": 8, "image_size": 16, "patch_size": 4}
            return SamModel(
                SamConfig(
                    vision_config=tower, prompt_encoder_config=prompts, mask_decoder_config=MASKS
                )
            )
        case "sam2" | "sam2_neck":
            tower = {"backbone_config": HIERA, "backbone_channel_list": [16, 12, 8, 4]}
            return Sam2Model(
                Sam2Config(
                    vision_config={**tower, "fpn_hidden_size": 8},
                    prompt_encoder_config={"hidden_size": 8, "image_size": 64},
                    mask_decoder_config=MASKS,
                )
            )
        case "convnext":
            stages = {"hidden_sizes": [4, 4, 4, 4], "depths": [1, 1, 1, 1]}
            return ConvNextForImageClassification(ConvNextConfig(**stages))
        case _:
            stages = {"embed_dim": 4, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
            return Swinv2ForImageClassification(Swinv2Config(image_size=16, **stages))


PLACES = {
    "aimv2": "vision_model",
    "convnext": "convnext",
    "depth_anything": "backbone",
    "dpt": "dpt",
    "metaclip_2": "vision_model",
    "sam": "",
    "sam2": "vision_encoder",
    "sam2_neck": "vision_encoder",
    "sam_neck": "",
    "swinv2": "swinv2",
    "tipsv2": "vision_model",
    "vjepa2": "",
}
"""Where the tower stands in the whole model."""


@pytest.mark.parametrize("family", PLACES)
def test_a_tower_is_found_in_the_files_of_its_whole_model(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = whole(family)
    model.save_pretrained(tmp_path)
    spec = parse_encoder(
        {"name": "e", "family": family, "checkpoint": str(tmp_path), "levels": [-1]}
    )
    cls = ENCODERS[family]
    with torch.device("meta"):
        encoder = cls(spec, cls.read_config(spec))
    with caplog.at_level(logging.WARNING):
        loaded = hub.load_pretrained(type(encoder.backbone), str(tmp_path), encoder.backbone.config)
    assert "LOAD REPORT" not in caplog.text
    expected = model.get_submodule(PLACES[family]).state_dict()
    state = loaded.state_dict()
    assert state.keys() == encoder.backbone.state_dict().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())


def test_a_depth_model_on_another_backbone_is_refused(tmp_path: Path) -> None:
    other = {"model_type": "swin", "out_indices": [1, 2, 3, 4]}
    DepthAnythingConfig(backbone_config=other).save_pretrained(tmp_path)
    spec = parse_encoder({"name": "e", "family": "depth_anything", "checkpoint": str(tmp_path)})
    with pytest.raises(PartError, match="stands on SwinConfig, not on DINOv2"):
        ENCODERS["depth_anything"].read_config(spec)
    DPTConfig(is_hybrid=True).save_pretrained(tmp_path)
    spec = parse_encoder({"name": "e", "family": "dpt", "checkpoint": str(tmp_path)})
    with pytest.raises(PartError, match="another backbone than its own ViT"):
        ENCODERS["dpt"].read_config(spec)


def test_learned_positions_of_aimv2_fit_one_size() -> None:
    fields = {"name": "e", "family": "aimv2", "image_size": 32, "backbone": VIT}
    with pytest.raises(PartError, match=r"image_size 32, but the positions .* learned for 16"):
        ENCODERS["aimv2"].shape(parse_encoder(fields), ENCODERS["aimv2"].config_class(**VIT))
