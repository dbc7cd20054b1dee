"""Family ``timm``: the features of `timm` itself, its own size and normalisation, named errors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from manyeyes.checkpoints import hub
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.errors import CheckpointError, PartError, RecipeError, UsageError

HERE = importlib.util.find_spec("timm") is not None
needs_timm = pytest.mark.skipif(not HERE, reason="timm is not installed: make timm-test")

TINY: dict[str, Any] = {"depth": 3, "embed_dim": 32, "num_heads": 2, "img_size": 32}
VITS: dict[str, dict[str, Any]] = {
    "deit_tiny_distilled_patch16_224": {**TINY, "patch_size": 8},
    "eva02_tiny_patch14_224": {**TINY, "patch_size": 8},
    "vit_base_patch16_siglip_224": {**TINY, "patch_size": 8},
    "vit_small_patch16_dinov3": {**TINY, "patch_size": 8},
    "vit_tiny_patch16_224": {**TINY, "patch_size": 8},
}
PREFIX = {
    "deit_tiny_distilled_patch16_224": 2,
    "eva02_tiny_patch14_224": 1,
    "vit_base_patch16_siglip_224": 0,
    "vit_small_patch16_dinov3": 5,
    "vit_tiny_patch16_224": 1,
}
MAPS: dict[str, dict[str, Any]] = {
    "convnext_atto": {"depths": [1, 1, 2, 1], "dims": [4, 8, 12, 16]},
    "resnet18": {"channels": [4, 8, 12, 16], "stem_width": 4},
    "swin_tiny_patch4_window7_224": {
        "depths": [1, 1, 1, 1],
        "embed_dim": 8,
        "num_heads": [1, 1, 2, 2],
        "img_size": 64,
        "window_size": 2,
    },
}
SIZE = {**dict.fromkeys(VITS, 32), **dict.fromkeys(MAPS, 64)}


def build(name: str, **spec: Any) -> Any:
    arguments = {**VITS, **MAPS}[name]
    backbone = {"architecture": name, "model_args": arguments}
    fields = {"name": "e", "family": "timm", "levels": [1, 3], "backbone": backbone}
    parsed = parse_encoder({**fields, "image_size": SIZE[name], **spec})
    family = ENCODERS["timm"]
    config = family.read_config(parsed)
    shape: Any = family.shape(parsed, config)
    torch.manual_seed(0)
    encoder: Any = family(parsed, config)
    for parameter in encoder.parameters():  # layer scales start near zero, which hides errors
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder.eval(), shape


def images(name: str) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, SIZE[name], SIZE[name], generator=draws)


def own_model(encoder: Any, name: str) -> Any:
    """A model that `timm` made itself, with the encoder's weights."""
    import timm

    arguments = {**{**VITS, **MAPS}[name], **encoder.backbone.config.model_args}
    model = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    model.load_state_dict(encoder.backbone.timm_model.state_dict())
    return model.eval()


@needs_timm
@torch.no_grad()
@pytest.mark.parametrize("name", VITS)
def test_levels_are_the_blocks_of_timm(name: str) -> None:
    encoder, shape = build(name, keep_prefix=True)
    seen, hooks = {}, []
    model = own_model(encoder, name)
    for index, block in enumerate(model.blocks):
        hooks.append(block.register_forward_hook(lambda _, __, out, i=index: seen.update({i: out})))
    model(images(name))
    features = encoder(images(name))
    prefix = PREFIX[name]
    assert shape.grid == features.grid == (4, 4) and shape.level_indices == (1, 3)
    assert shape.num_prefix == prefix and shape.width == 32
    for place, level in enumerate((1, 3)):
        torch.testing.assert_close(features.levels[place], seen[level - 1][:, prefix:])
        if prefix:
            torch.testing.assert_close(features.prefix[place], seen[level - 1][:, :prefix])


@needs_timm
@torch.no_grad()
@pytest.mark.parametrize("name", MAPS)
def test_levels_are_the_maps_of_timm(name: str) -> None:
    encoder, shape = build(name)
    model = own_model(encoder, name)
    maps = model.forward_intermediates(images(name), intermediates_only=True)
    features = encoder(images(name))
    coarse, fine = maps[2], maps[0]
    small = functional.interpolate(
        fine, coarse.shape[-2:], mode="bilinear", antialias=True, align_corners=False
    )
    joined = torch.cat([small, coarse], dim=1).flatten(2).transpose(1, 2)
    assert shape.grid == features.grid == tuple(coarse.shape[-2:]) and shape.level_indices == (3,)
    assert shape.width == joined.shape[-1] == encoder.packed_size()[-1]
    torch.testing.assert_close(features.levels[0], joined)


@needs_timm
@torch.no_grad()
@pytest.mark.parametrize("name", [*VITS, *MAPS])
def test_the_contract(name: str) -> None:
    encoder, shape = build(name, levels=[2, -1], keep_prefix=True)
    seen = images(name)
    features = encoder(seen)
    assert features.grid == shape.grid and features.level_indices == shape.level_indices
    assert all(x.shape == (2, shape.num_patches, shape.width) for x in features.levels)
    alone = encoder(seen[1:])
    for together, single in zip(features.levels, alone.levels, strict=True):
        torch.testing.assert_close(together[1:], single, rtol=1e-4, atol=1e-4)
    back = encoder.unpack(encoder.pack(features))
    assert back.grid == features.grid and back.level_indices == features.level_indices
    torch.testing.assert_close(back.levels + back.prefix, features.levels + features.prefix)
    cost = type(encoder).cost(encoder.spec, encoder.backbone.config)
    assert cost.given == shape.num_patches and cost.blocks >= 1


@needs_timm
def test_gradients_only_where_the_backbone_learns() -> None:
    encoder, _ = build("vit_tiny_patch16_224")
    features = encoder(images("vit_tiny_patch16_224"))
    assert features.levels[0].requires_grad
    encoder.requires_grad_(False)
    assert not encoder(images("vit_tiny_patch16_224")).levels[0].requires_grad


@needs_timm
@torch.no_grad()
def test_another_size_than_its_own_is_interpolated() -> None:
    encoder, shape = build("vit_tiny_patch16_224", image_size=48, grid=[6, 6], prefix=1)
    assert encoder.backbone.config.model_args["dynamic_img_size"]
    assert encoder.backbone.timm_model.pos_embed.shape[1] == 17, "as many as the checkpoint holds"
    assert encoder(torch.zeros(1, 3, 48, 48)).grid == shape.grid == (6, 6)


@needs_timm
@torch.no_grad()
def test_the_final_norm() -> None:
    encoder, _ = build("vit_tiny_patch16_224", final_norm=True)
    bare, _ = build("vit_tiny_patch16_224")
    bare.load_state_dict(encoder.state_dict())
    seen = images("vit_tiny_patch16_224")
    normed = bare.backbone.timm_model.norm(bare(seen).levels[0])
    torch.testing.assert_close(encoder(seen).levels[0], normed)
    with pytest.raises(PartError, match="belongs to level 4 alone"):
        build("swin_tiny_patch4_window7_224", final_norm=True)
    without, _ = build("convnext_atto", levels=[-1], final_norm=True)
    with pytest.raises(RecipeError, match="final_norm: timm has none"):
        without(images("convnext_atto"))


@needs_timm
def test_pixels_are_normalised_as_the_checkpoint_was() -> None:
    family = ENCODERS["timm"]
    fields = {"name": "e", "family": "timm", "backbone": {"architecture": "resnet18"}}
    spec = parse_encoder(fields)
    rule = family.transform(spec, family.read_config(spec))
    assert rule.size == (224, 224) and rule.resample == "bicubic"
    assert rule.mean == (0.485, 0.456, 0.406), "of resnet18.a1_in1k in timm"
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 96, 96]}
    own["interpolation"] = "bilinear"
    fields["backbone"] = {"architecture": "resnet18", "pretrained_cfg": own}
    spec = parse_encoder(fields)
    rule = family.transform(spec, family.read_config(spec))
    assert (rule.size, rule.mean, rule.std) == ((96, 96), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert rule.resample == "bilinear"
    asked = parse_encoder({**fields, "normalization": "half"})
    assert family.transform(asked, family.read_config(asked)).mean == (0.5, 0.5, 0.5)


@needs_timm
@torch.no_grad()
def test_a_folder_as_timm_publishes_it(tmp_path: Path) -> None:
    """`config.json` and `model.safetensors`, the names without a wrapper's, a head among them."""
    import timm

    arguments = {**TINY, "patch_size": 8}
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, **arguments).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    published = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    described = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 5,
        "model_args": arguments,
        "pretrained_cfg": {**published, "interpolation": "bicubic", "num_classes": 5},
    }
    (tmp_path / "config.json").write_text(json.dumps(described))
    fields = {"name": "e", "family": "timm", "checkpoint": str(tmp_path), "levels": [2]}
    spec = parse_encoder(fields)
    family = ENCODERS["timm"]
    config = family.read_config(spec)
    encoder: Any = family(spec, config).eval()
    part = encoder.pretrained_parts()["backbone"]
    loaded = hub.load_pretrained(type(part), spec.checkpoint, part.config)
    part.load_state_dict(loaded.state_dict())
    seen = images("vit_tiny_patch16_224")
    expected = model.forward_intermediates(seen, intermediates_only=True, output_fmt="NLC")[1]
    torch.testing.assert_close(encoder(seen).levels[0], expected)
    assert family.transform(spec, config).std == (0.25, 0.25, 0.25)
    again = parse_encoder({"name": "e", "family": "timm", "backbone": config.to_dict()})
    assert family.read_config(again).to_dict() == config.to_dict()


@needs_timm
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"backbone": {"architecture": "vit_tinny_patch16_224"}}, "did you mean 'vit_tiny_patch16"),
        ({"checkpoint": "resnet81"}, "has no model 'resnet81'.*did you mean 'resnet"),
        ({"checkpoint": "timm/resnet81.a1_in1k"}, "has no model 'resnet81.a1_in1k'.*did you mean"),
        ({"checkpoint": "resnet18"}, "say checkpoint: timm/resnet18"),
        ({"grid": [3, 3]}, r"counts on a grid of \[3, 3\], but .* gives \[4, 4\]"),
        ({"prefix": 0}, "counts on 0 tokens before the patches, but .* gives 1"),
        ({"levels": [0, 1]}, "timm gives no embedding, so levels begin with 1"),
        ({"levels": [4]}, "has 3 blocks, so level 4 does not exist"),
        ({"image_size": 36}, "not a multiple of its patch size 8"),
    ],
)
def test_what_does_not_fit_is_refused(spec: dict[str, Any], message: str) -> None:
    backbone = {"architecture": "vit_tiny_patch16_224", "model_args": {**TINY, "patch_size": 8}}
    if "checkpoint" in spec:
        backbone = {}
    fields = {"name": "e", "family": "timm", "levels": [1], "backbone": backbone, **spec}
    parsed = parse_encoder(fields)
    with pytest.raises(PartError, match=message):
        ENCODERS["timm"].shape(parsed, ENCODERS["timm"].read_config(parsed))


@needs_timm
def test_a_model_without_features_of_its_stages_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from timm.models.resnet import ResNet

    monkeypatch.delattr(ResNet, "forward_intermediates")
    backbone = {"architecture": "resnet18", "model_args": {"channels": [4, 4, 4, 4]}}
    spec = parse_encoder({"name": "e", "family": "timm", "levels": [1], "backbone": backbone})
    with pytest.raises(PartError, match="resnet18 of timm gives no features of its blocks"):
        ENCODERS["timm"].shape(spec, ENCODERS["timm"].read_config(spec))


@needs_timm
def test_a_checkpoint_of_transformers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    spec = parse_encoder({"name": "e", "family": "timm", "checkpoint": str(tmp_path)})
    with pytest.raises(PartError, match="is no checkpoint of timm"):
        ENCODERS["timm"].read_config(spec)
    missing = parse_encoder({"name": "e", "family": "timm", "checkpoint": "me/mine"})
    with pytest.raises(CheckpointError, match="cannot load 'me/mine'"):
        ENCODERS["timm"].read_config(missing)


@pytest.mark.skipif(HERE, reason="timm is installed")
def test_the_extra_is_named() -> None:
    spec = parse_encoder({"name": "e", "family": "timm", "backbone": {"architecture": "resnet18"}})
    with pytest.raises(UsageError, match=r"pip install 'manyeyes\[timm\]'"):
        ENCODERS["timm"].read_config(spec)
