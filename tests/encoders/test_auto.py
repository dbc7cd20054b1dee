"""Family ``auto``: any model of patches, checked against what it does before weights are read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.errors import PartError, RecipeError

VIT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 16,
}
PREFIX = {"clip_vision_model": 1, "deit": 2, "ijepa": 0, "vit": 1, "vit_msn": 1}


def build(model_type: str, **spec: Any) -> Any:
    backbone = {**VIT, "model_type": model_type, **spec.pop("backbone", {})}
    fields = {"name": "e", "family": "auto", "levels": [1, 3], "backbone": backbone}
    parsed = parse_encoder({**fields, "normalization": "half", **spec})
    cls = ENCODERS["auto"]
    config = cls.read_config(parsed)
    shape = cls.shape(parsed, config)
    torch.manual_seed(0)
    return cls(parsed, config).eval(), shape


@torch.no_grad()
@pytest.mark.parametrize("model_type", PREFIX)
def test_levels_are_the_hidden_states_of_transformers(model_type: str) -> None:
    encoder, shape = build(model_type, keep_prefix=True)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    features = encoder(pixels)
    states = encoder.backbone(pixel_values=pixels, output_hidden_states=True).hidden_states
    prefix = PREFIX[model_type]
    assert shape.num_prefix == prefix and shape.grid == features.grid == (4, 4)
    for level, patches, kept in zip((1, 3), features.levels, features.prefix, strict=True):
        torch.testing.assert_close(patches, states[level][:, prefix:])
        torch.testing.assert_close(kept, states[level][:, :prefix])


@torch.no_grad()
def test_other_sizes_where_the_model_interpolates() -> None:
    encoder, shape = build("vit", image_size=24, grid=[6, 6], prefix=1)
    assert encoder(torch.randn(1, 3, 24, 24)).levels[0].shape == (1, 36, 16)
    assert shape.grid == (6, 6) and shape.width == 16


def test_a_configuration_survives_as_plain_fields() -> None:
    spec = parse_encoder({"name": "e", "family": "auto", "backbone": {**VIT, "model_type": "deit"}})
    config = ENCODERS["auto"].read_config(spec)
    again = parse_encoder({"name": "e", "family": "auto", "backbone": config.to_dict()})
    assert type(ENCODERS["auto"].read_config(again)) is type(config)


@pytest.mark.parametrize(
    ("model_type", "spec", "message"),
    [
        ("vit", {"grid": [7, 7]}, r"counts on a grid of \[7, 7\], but 'vit' gives \[4, 4\]"),
        ("vit", {"prefix": 0}, "counts on 0 tokens before the patches, but 'vit' gives 1"),
        ("yolos", {}, r"'yolos' has other tokens among or after its patches"),
        ("resnet", {}, "has no image_size"),
        ("llama", {}, "has no image_size"),
        ("aimv2_vision_model", {"image_size": 24}, "cannot be run on an image of 24 x 24 pixels"),
        ("vit", {"image_size": 18}, "not a multiple of its patch size 4"),
    ],
)
def test_models_that_do_something_else_are_refused(
    model_type: str, spec: dict[str, Any], message: str
) -> None:
    backbone = {} if model_type not in ("resnet", "llama") else {"image_size": None}
    if model_type == "yolos":
        backbone = {"image_size": [16, 16], "num_detection_tokens": 4}
    with pytest.raises(PartError, match=message):
        build(model_type, backbone=backbone, **spec)


def test_a_type_that_there_is_not_is_refused() -> None:
    with pytest.raises(RecipeError, match="is refused by transformers"):
        build("vitt")


def test_pixels_need_a_declared_normalization() -> None:
    encoder, _ = build("vit", normalization="own")
    with pytest.raises(PartError, match="knows no normalisation of its own"):
        ENCODERS["auto"].transform(encoder.spec, encoder.backbone.config)


def test_other_families_know_their_grid() -> None:
    with pytest.raises(RecipeError, match="clip knows its own"):
        parse_encoder({"name": "e", "family": "clip", "prefix": 1})
