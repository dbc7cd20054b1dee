"""Every encoder family: same numbers as `transformers`, and the contract all of them keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    Aimv2VisionConfig,
    Blip2VisionConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    DPTConfig,
    IJepaConfig,
    MetaClip2VisionConfig,
    MLCDVisionConfig,
    PreTrainedConfig,
    RadioConfig,
    Sam3VisionConfig,
    SamVisionConfig,
    Siglip2VisionConfig,
    SiglipVisionConfig,
    Tipsv2VisionConfig,
    ViTMAEConfig,
    VJEPA2Config,
)

from manyeyes.encoders import ENCODERS, GridEncoder, parse_encoder
from manyeyes.encoders.levels import parse_levels
from manyeyes.encoders.maps import MapEncoder
from manyeyes.encoders.spec import NORMALIZATIONS
from manyeyes.errors import CheckpointError, PartError, RecipeError
from manyeyes.model.pictures.pixels import to_pixels

COMMON: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 4,
}
BY_RATIO = {key: value for key, value in COMMON.items() if key != "intermediate_size"}
CONFIGS: dict[str, PreTrainedConfig] = {
    "aimv2": Aimv2VisionConfig(image_size=16, is_native=True, **COMMON),
    "clip": CLIPVisionConfig(image_size=16, **COMMON),
    "clip_projected": CLIPVisionConfig(image_size=16, projection_dim=8, **COMMON),
    "depth_anything": Dinov2Config(image_size=16, **COMMON),
    "dinov2": Dinov2Config(image_size=16, **COMMON),
    "dinov2_registers": Dinov2WithRegistersConfig(image_size=16, num_register_tokens=2, **COMMON),
    "dinov3": DINOv3ViTConfig(image_size=16, num_register_tokens=2, **COMMON),
    "dpt": DPTConfig(image_size=16, backbone_out_indices=[0, 1, 2, 2], **COMMON),
    "eva_clip": Blip2VisionConfig(image_size=16, **COMMON),
    "ijepa": IJepaConfig(image_size=16, **COMMON),
    "mae": ViTMAEConfig(image_size=16, **COMMON),
    "metaclip_2": MetaClip2VisionConfig(image_size=16, **COMMON),
    "mlcd": MLCDVisionConfig(image_size=16, **COMMON),
    "radio": RadioConfig(image_size=16, max_img_size=32, **BY_RATIO),
    "sam": SamVisionConfig(
        image_size=16,
        window_size=3,
        global_attn_indexes=[2],
        output_channels=8,
        num_pos_feats=4,
        **BY_RATIO,
    ),
    "sam3": Sam3VisionConfig(
        backbone_config={
            "model_type": "sam3_vit_model",
            "image_size": 16,
            "pretrain_image_size": 8,
            "window_size": 2,
            "global_attn_indexes": [2],
            **COMMON,
        },
        fpn_hidden_size=8,
    ),
    "siglip": SiglipVisionConfig(image_size=16, **COMMON),
    "siglip2": Siglip2VisionConfig(num_patches=16, **COMMON),
    "tipsv2": Tipsv2VisionConfig(image_size=16, **BY_RATIO),
    "vjepa2": VJEPA2Config(
        crop_size=16,
        frames_per_clip=4,
        pred_hidden_size=12,
        pred_num_hidden_layers=1,
        **{**BY_RATIO, "hidden_size": 24},
    ),
}
GRIDS = {
    name: cls
    for name, cls in ENCODERS.items()
    if issubclass(cls, GridEncoder) and not issubclass(cls, MapEncoder) and name != "auto"
}
"""The families of one grid for all levels; detectors, feature maps and ``auto`` have own tests."""
PREFIX = {
    "aimv2": 0,
    "dinov2_registers": 3,
    "dinov3": 3,
    "ijepa": 0,
    "radio": 10,
    "sam": 0,
    "sam3": 0,
    "siglip": 0,
    "siglip2": 0,
    "tipsv2": 2,
    "vjepa2": 0,
}


def build(family: str, **spec: Any) -> GridEncoder:
    torch.manual_seed(0)
    cls = GRIDS[family]
    fields = {"name": family, "family": family, "levels": [1, 3], **spec}
    encoder = cls(parse_encoder(fields), type(CONFIGS[family])(**CONFIGS[family].to_dict()))
    for parameter in encoder.parameters():  # some families start at exact zeros, which hide errors
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def pixels(size: int = 16, images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1))


def reference_states(encoder: GridEncoder, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The states straight from the `transformers` model, as its own documentation calls it."""
    family = encoder.spec.family
    arguments: dict[str, Any] = {"pixel_values": images}
    if family == "mae":
        arguments["noise"] = torch.arange(16.0).expand(len(images), -1)
    if family == "siglip2":
        cut = images.unfold(2, 4, 4).unfold(3, 4, 4)  # I, C, rows, columns, p, p
        arguments = {
            "pixel_values": cut.permute(0, 2, 3, 4, 5, 1).reshape(len(images), 16, -1),
            "pixel_attention_mask": torch.ones(len(images), 16, dtype=torch.long),
            "spatial_shapes": torch.tensor([[4, 4]] * len(images)),
        }
    if family == "vjepa2":
        arguments = {"pixel_values_videos": torch.stack([images, images], dim=1)}
    states = encoder.backbone(**arguments, output_hidden_states=True).hidden_states
    return tuple(x.flatten(1, 2) for x in states) if family.startswith("sam") else states


def test_every_family_has_a_configuration_here() -> None:
    assert set(CONFIGS) == set(GRIDS)


@pytest.mark.parametrize("family", sorted(GRIDS))
def test_levels_equal_the_hidden_states_of_transformers(family: str) -> None:
    encoder = build(family, levels=[0, 2, 3])
    images = pixels()
    features = encoder(images)
    states = reference_states(encoder, images)
    assert len(states) == 4
    for level, patches in zip((0, 2, 3), features.levels, strict=True):
        expected = states[level][:, PREFIX.get(family, 1) :]
        torch.testing.assert_close(patches, expected, rtol=1e-5, atol=1e-5)
    assert features.grid == (4, 4) and features.level_indices == (0, 2, 3)


@pytest.mark.parametrize("family", sorted(GRIDS))
def test_declared_shape_is_the_real_shape(family: str) -> None:
    encoder = build(family, image_size=24)
    config = type(CONFIGS[family])(**CONFIGS[family].to_dict())
    declared = GRIDS[family].shape(encoder.spec, config)
    features = encoder(pixels(24))
    assert features.grid == declared.grid == (6, 6)
    assert all(level.shape == (2, 36, declared.width) for level in features.levels)
    assert all(bool(torch.isfinite(level).all()) for level in features.levels)


@pytest.mark.parametrize("family", sorted(GRIDS))
def test_one_image_alone_equals_the_same_image_in_a_batch(family: str) -> None:
    encoder, images = build(family), pixels(images=3)
    batch, single = encoder(images).levels[1], encoder(images[1:2]).levels[1]
    torch.testing.assert_close(batch[1:2], single, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(GRIDS))
def test_patches_are_in_raster_order(family: str) -> None:
    """Changing one corner's pixels changes that patch's embedding (level 0) and no other."""
    encoder = build(family, levels=[0])
    images = pixels()
    changed = images.clone()
    changed[:, :, :4, 12:] += 1.0  # row 0, column 3
    difference = (encoder(images).levels[0] - encoder(changed).levels[0]).abs().amax(dim=(0, 2))
    assert difference[3] > 1e-3
    assert float(difference.sum() - difference[3]) < 1e-5


@pytest.mark.parametrize("family", sorted(GRIDS))
def test_frozen_gives_no_graph_and_trainable_gives_gradients(family: str) -> None:
    encoder = build(family)
    assert encoder(pixels()).levels[1].requires_grad
    encoder(pixels()).levels[1].square().sum().backward()
    with_gradient = [p for p in encoder.parameters() if p.grad is not None]
    assert len(with_gradient) > 10
    encoder.requires_grad_(False)
    assert not encoder(pixels()).levels[1].requires_grad


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(GRIDS))
def test_packed_features_come_back_as_they_were(family: str) -> None:
    encoder = build(family, keep_prefix=PREFIX.get(family, 1) > 0)
    features = encoder(pixels())
    packed = encoder.pack(features)
    assert packed.shape == (2, *encoder.packed_size())
    again = encoder.unpack(packed)
    assert again.grid == features.grid and again.level_indices == features.level_indices
    for one, other in ((again.levels, features.levels), (again.prefix, features.prefix)):
        assert len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("family", sorted(GRIDS))
def test_resampler_reaches_the_declared_grid(family: str) -> None:
    features = build(family, resample=[2, 3])(pixels())
    assert features.grid == (2, 3)
    assert features.levels[0].shape[:2] == (2, 6)


def test_final_norm_is_the_backbones_last_norm() -> None:
    norms = {
        "depth_anything": "layernorm",
        "dpt": "layernorm",
        "vjepa2": "encoder.layernorm",
        "aimv2": "rms_norm",
        "clip": "post_layernorm",
        "dinov2": "layernorm",
        "dinov3": "norm",
        "ijepa": "layernorm",
        "metaclip_2": "post_layernorm",
        "mlcd": "post_layernorm",
        "tipsv2": "layernorm",
    }
    for family, last in norms.items():
        plain, normed = build(family, levels=[3]), build(family, levels=[3], final_norm=True)
        norm = plain.backbone.get_submodule(last)
        torch.testing.assert_close(
            normed(pixels()).levels[0], norm(plain(pixels()).levels[0]), rtol=1e-4, atol=1e-4
        )


@torch.no_grad()
def test_projected_clip_ends_in_the_image_embedding_of_transformers() -> None:
    encoder = build("clip_projected", levels=[3], final_norm=True, keep_prefix=True)
    features, images = encoder(pixels()), pixels()
    declared = GRIDS["clip_projected"].shape(encoder.spec, encoder.backbone.config)
    assert (declared.width, declared.num_prefix) == (8, 1)
    assert features.levels[0].shape == (2, 16, 8)
    embedding = encoder.backbone(pixel_values=images).image_embeds
    torch.testing.assert_close(features.prefix[0][:, 0], embedding, rtol=1e-4, atol=1e-5)


def test_bgr_exchanges_red_and_blue() -> None:
    spec = {"name": "c", "family": "clip"}
    plain = GRIDS["clip"].transform(parse_encoder(spec), CONFIGS["clip"])
    swapped = GRIDS["clip"].transform(parse_encoder({**spec, "bgr": True}), CONFIGS["clip"])
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    turned = Image.new("RGB", (16, 16), (50, 100, 200))
    given = to_pixels([image], swapped, "pad", (0, 0, 0))
    assert torch.equal(given, to_pixels([turned], plain, "pad", (0, 0, 0)))
    assert not torch.equal(given, to_pixels([image], plain, "pad", (0, 0, 0)))


def test_prefix_tokens_are_kept_when_asked() -> None:
    features = build("dinov2_registers", keep_prefix=True)(pixels())
    assert [tokens.shape for tokens in features.prefix] == [(2, 3, 16)] * 2
    assert build("clip")(pixels()).prefix == ()


def test_mae_is_deterministic_and_unmasked() -> None:
    encoder = build("mae")
    first, second = encoder(pixels()).levels[1], encoder(pixels()).levels[1]
    assert torch.equal(first, second) and first.shape[1] == 16


def test_normalizations() -> None:
    config = CONFIGS["dinov2"]
    own = GRIDS["dinov2"].transform(parse_encoder({"name": "d", "family": "dinov2"}), config)
    clip = GRIDS["dinov2"].transform(
        parse_encoder({"name": "d", "family": "dinov2", "normalization": "clip"}), config
    )
    assert (own.mean, own.std) == NORMALIZATIONS["imagenet"]
    assert (clip.mean, clip.std) == NORMALIZATIONS["clip"]
    assert own.size == (16, 16)


def test_levels_are_parsed() -> None:
    assert parse_levels("all", 4, "x") == (1, 2, 3, 4)
    assert parse_levels(["2-4"], 4, "x") == (2, 3, 4)
    assert parse_levels([-2, -1], 4, "x") == (3, 4)
    assert parse_levels(0, 4, "x") == (0,)
    assert parse_levels("19-24", 24, "x") == tuple(range(19, 25))


def test_comm_check_04_a_12_block_encoder_has_no_level_19() -> None:
    with pytest.raises(PartError, match=r"'dino' has 12 blocks, so level 19 does not exist"):
        parse_levels("19-24", 12, "dino")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"family": "dinov4"}, "did you mean 'dinov"),
        ({"family": "clip", "leves": [1]}, "did you mean 'levels'"),
        ({"family": "clip", "normalization": "imagnet"}, "did you mean 'imagenet'"),
    ],
)
def test_wrong_specs_name_the_nearest_right_one(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_encoder({"name": "x", **spec})


def test_words_are_no_levels() -> None:
    with pytest.raises(RecipeError, match="not a level"):
        parse_levels(["deep"], 4, "x")


def test_image_size_must_fit_the_patches() -> None:
    with pytest.raises(PartError, match="not a multiple of its patch size 4"):
        GRIDS["clip"].shape(
            parse_encoder({"name": "c", "family": "clip", "image_size": 18}), CONFIGS["clip"]
        )


def test_a_missing_checkpoint_names_the_id_and_the_remedy() -> None:
    spec = parse_encoder({"name": "c", "family": "clip", "checkpoint": "nobody/nothing"})
    with pytest.raises(CheckpointError, match=r"nobody/nothing.*hf download"):
        GRIDS["clip"].read_config(spec)


def test_a_missing_world_part_names_the_command() -> None:
    spec = parse_encoder({"name": "c", "family": "clip", "checkpoint": "world:unicorn"})
    with pytest.raises(CheckpointError, match="manyeyes world pretrain"):
        GRIDS["clip"].read_config(spec)
