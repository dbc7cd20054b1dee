"""Encoders of feature maps: the maps of `transformers`, on one grid, joined where widths differ."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    ConvNextConfig,
    ConvNextV2Config,
    DINOv3ConvNextConfig,
    PreTrainedConfig,
    Sam2VisionConfig,
    Sam3VisionConfig,
    SamVisionConfig,
    SwinConfig,
    Swinv2Config,
)

from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.encoders.maps import MapEncoder
from manyeyes.errors import PartError, RecipeError

STAGES: dict[str, Any] = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1]}
WINDOWS: dict[str, Any] = {
    "embed_dim": 4,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
}
SAM: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
}
HIERA: dict[str, Any] = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 4,
    "blocks_per_stage": [1, 2, 1, 1],
    "embed_dim_per_stage": [4, 8, 12, 16],
    "num_attention_heads_per_stage": [1, 1, 1, 2],
    "window_size_per_stage": [4, 2, 2, 2],
    "global_attention_blocks": [2],
    "window_positional_embedding_background_size": [2, 2],
}
SAM2 = Sam2VisionConfig(
    backbone_config={**HIERA, "image_size": [64, 64]},
    backbone_channel_list=[16, 12, 8, 4],
    fpn_hidden_size=8,
)
CONFIGS: dict[str, PreTrainedConfig] = {
    "convnext": ConvNextConfig(image_size=64, **STAGES),
    "convnextv2": ConvNextV2Config(image_size=64, **STAGES),
    "dinov3_convnext": DINOv3ConvNextConfig(image_size=64, **STAGES),
    "sam2": SAM2,
    "sam2_neck": SAM2,
    "sam3_neck": Sam3VisionConfig(
        backbone_config={
            "model_type": "sam3_vit_model", "image_size": 64, "pretrain_image_size": 8,
            "window_size": 4, "global_attn_indexes": [1], "intermediate_size": 24, **SAM,
        },
        fpn_hidden_size=8,
    ),
    "sam_neck": SamVisionConfig(
        image_size=64, window_size=3, global_attn_indexes=[1], output_channels=8, num_pos_feats=4,
        **SAM,
    ),
    "swin": SwinConfig(image_size=64, **WINDOWS),
    "swinv2": Swinv2Config(image_size=64, **WINDOWS),
}  # fmt: skip
FAMILIES = sorted(CONFIGS)
NECKS = ("sam2_neck", "sam3_neck", "sam_neck")


def build(family: str, **spec: Any) -> MapEncoder:
    torch.manual_seed(0)
    fields = {"name": family, "family": family, "levels": [-1], **spec}
    encoder = ENCODERS[family](parse_encoder(fields), copy.deepcopy(CONFIGS[family]))
    assert isinstance(encoder, MapEncoder)
    for parameter in encoder.parameters():  # layer scales start near zero, which hides errors
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def pixels(size: int = 64, images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1))


def reference_maps(encoder: MapEncoder, images: torch.Tensor) -> list[torch.Tensor]:
    """The maps straight from the `transformers` model, ``[I, D, h, w]`` each."""
    output = encoder.backbone(pixel_values=images, output_hidden_states=True)
    if encoder.spec.family in NECKS:
        maps = output.get("fpn_hidden_states") or (output.last_hidden_state,)
        return [torch.empty(0), *maps]
    states = output.get("reshaped_hidden_states") or output.hidden_states
    return [x.permute(0, 3, 1, 2) if encoder.spec.family == "sam2" else x for x in states]


def test_every_family_has_a_configuration_here() -> None:
    found = {name for name, cls in ENCODERS.items() if issubclass(cls, MapEncoder)}
    assert set(CONFIGS) == found - {"timm"}, "models of timm have their own tests"


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_each_level_is_the_map_of_transformers(family: str) -> None:
    encoder, images = build(family), pixels()
    maps = reference_maps(encoder, images)
    config, spec = CONFIGS[family], encoder.spec
    assert len(maps) == encoder.num_blocks(config) + 1
    for level in range(1, len(maps)):
        encoder.levels = (level,)
        features = encoder(images)
        expected = maps[level]
        assert features.grid == expected.shape[-2:] and features.level_indices == (level,)
        torch.testing.assert_close(features.levels[0], expected.flatten(2).transpose(1, 2))
        one = parse_encoder({"name": "x", "family": family, "levels": [level]})
        shape = ENCODERS[family].shape(one, config)
        assert (shape.width, shape.grid) == (expected.shape[1], features.grid)
    assert spec.name == family


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_declared_shape_is_the_real_shape(family: str) -> None:
    levels = "all" if family != "sam_neck" else [1]
    encoder = build(family, image_size=96, levels=levels)
    shape = ENCODERS[family].shape(encoder.spec, CONFIGS[family])
    features = encoder(pixels(96))
    assert features.grid == shape.grid and features.level_indices == shape.level_indices
    assert len(features.levels) == len(shape.level_indices)
    for level in features.levels:
        assert level.shape == (2, math.prod(shape.grid), shape.width)
        assert bool(torch.isfinite(level).all())
    joined = family not in NECKS
    assert len(features.levels) == (1 if joined else len(encoder.levels))
    again = encoder.unpack(encoder.pack(features))
    assert again.grid == features.grid and again.level_indices == features.level_indices
    assert all(map(torch.equal, again.levels, features.levels))


@torch.no_grad()
def test_maps_of_different_widths_are_joined_on_the_coarsest_grid() -> None:
    encoder, images = build("convnext", levels=[2, 3, 4]), pixels()
    maps = reference_maps(encoder, images)
    features = encoder(images)
    assert features.grid == (2, 2) and features.level_indices == (4,)
    small = [functional.interpolate(x, (2, 2), mode="bilinear", antialias=True) for x in maps[2:4]]
    expected = torch.cat([*small, maps[4]], dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(features.levels[0], expected)


@torch.no_grad()
def test_each_map_is_normalized_before_maps_are_joined() -> None:
    features = build("convnext", levels=[4, 3], resample=[2, 2], feature_norm="rms")(pixels())
    last = features.levels[0][..., :16]
    torch.testing.assert_close(last.square().mean(dim=-1), torch.ones(2, 4), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_resample_gives_the_grid_that_it_names() -> None:
    features = build("swin", levels=[3, 4], resample=[3, 5])(pixels())
    assert features.grid == (3, 5)
    assert [level.shape for level in features.levels] == [(2, 15, 32)] * 2


@torch.no_grad()
@pytest.mark.parametrize("family", ["dinov3_convnext", "swin", "swinv2"])
def test_the_final_norm_belongs_to_the_last_level(family: str) -> None:
    normed, images = build(family, final_norm=True), pixels()
    last = normed.backbone(pixel_values=images).last_hidden_state
    patches = last[:, 1:] if family == "dinov3_convnext" else last  # its first token is a mean
    torch.testing.assert_close(normed(images).levels[0], patches)
    with pytest.raises(PartError, match=r"belongs to level 4 alone, but levels are \[3, 4\]"):
        build(family, final_norm=True, levels=[3, 4])


def test_a_convnext_has_no_final_norm_for_its_map() -> None:
    with pytest.raises(RecipeError, match=r"convnext\.final_norm: convnext has none"):
        build("convnext", final_norm=True)(pixels())


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_gives_no_graph_and_trainable_gives_gradients(family: str) -> None:
    encoder = build(family)
    encoder(pixels()).levels[0].square().sum().backward()
    assert sum(p.grad is not None for p in encoder.parameters()) > 10
    encoder.requires_grad_(False)
    assert not encoder(pixels()).levels[0].requires_grad


def test_sizes_are_multiples_of_the_coarsest_stride() -> None:
    spec = parse_encoder({"name": "c", "family": "convnext", "image_size": 80, "levels": [2]})
    with pytest.raises(PartError, match="80 is not a multiple of its patch size 32"):
        ENCODERS["convnext"].shape(spec, CONFIGS["convnext"])


def test_a_cost_is_that_of_the_blocks() -> None:
    spec = parse_encoder({"name": "c", "family": "convnext", "levels": [4]})
    cost = ENCODERS["convnext"].cost(spec, CONFIGS["convnext"])
    assert (cost.tokens, cost.given, cost.width, cost.blocks) == (16, 4, 12, 5)
    for family in FAMILIES:
        spec = parse_encoder({"name": "c", "family": family, "levels": [-1]})
        assert ENCODERS[family].cost(spec, CONFIGS[family]).blocks in (2, 5)
