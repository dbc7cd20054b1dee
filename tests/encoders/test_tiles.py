"""`tiles`: every tile as the encoder sees it alone, each patch where it lies in the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.errors import PartError, RecipeError
from manyeyes.layers.patches import cut_tiles, join_tiles
from manyeyes.records import Sample, Turn

VIT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 16,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "clip": VIT,
    "convnext": {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1], "image_size": 32},
    "siglip": VIT,
}
SIDE = {"clip": 16, "convnext": 32, "siglip": 16}
FAMILIES = sorted(BACKBONES)


def build(family: str, **spec: Any) -> Any:
    torch.manual_seed(0)
    fields = {"name": "e", "family": family, "levels": [-1], "backbone": BACKBONES[family]}
    parsed = parse_encoder({**fields, "tiles": 2, **spec})
    cls = ENCODERS[family]
    encoder: Any = cls(parsed, cls.read_config(parsed))
    for parameter in encoder.parameters():  # layer scales start near zero, which hides errors
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    return encoder.eval()


def shape_of(encoder: Any) -> Any:
    return type(encoder).shape(encoder.spec, encoder.backbone.config)


def pixels(side: int, images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_each_quarter_is_what_the_encoder_gives_of_that_quarter(family: str) -> None:
    prefixed = {"keep_prefix": True} if family == "clip" else {}
    encoder, alone = build(family, **prefixed), build(family, tiles=1, **prefixed)
    side = SIDE[family]
    seen = pixels(2 * side)
    features, shape = encoder(seen), shape_of(encoder)
    rows, columns = shape.grid
    assert features.grid == shape.grid and features.levels[0].shape == (2, rows * columns, 16)
    picture = features.levels[0].unflatten(1, (rows, columns))
    for down in range(2):
        for across in range(2):
            part = seen[:, :, down * side :, across * side :][:, :, :side, :side]
            found = picture[:, down * rows // 2 :, across * columns // 2 :]
            found = found[:, : rows // 2, : columns // 2].flatten(1, 2)
            expected = alone(part)
            torch.testing.assert_close(found, expected.levels[0])
            if prefixed:
                place = 2 * down + across
                torch.testing.assert_close(features.prefix[0][:, place], expected.prefix[0][:, 0])
    assert shape.num_prefix == (4 if prefixed else 0)


@torch.no_grad()
@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (3, 4), (4, 3), (6, 1)])
def test_a_patch_lies_where_its_pixels_lie(row: int, column: int) -> None:
    encoder = build("siglip", levels=[0])
    seen = pixels(32, images=1)
    changed = seen.clone()
    changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1.0
    moved = (encoder(seen).levels[0] - encoder(changed).levels[0]).abs().amax(dim=-1)
    assert torch.nonzero(moved[0] > 1e-4).flatten().tolist() == [8 * row + column]


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_stored_and_resampled_as_of_one_picture(family: str) -> None:
    encoder = build(family, resample=[2, 2], resample_mode="area")
    full = build(family)
    seen = pixels(2 * SIDE[family])
    features, whole = encoder(seen), full(seen)
    assert features.grid == shape_of(encoder).grid == (2, 2)
    rows, columns = whole.grid
    blocks = whole.levels[0].unflatten(1, (2, rows // 2, 2, columns // 2)).mean(dim=(2, 4))
    torch.testing.assert_close(features.levels[0], blocks.flatten(1, 2))
    back = full.unpack(full.pack(whole))
    assert back.grid == whole.grid and torch.equal(back.levels[0], whole.levels[0])
    assert full.pack(whole).shape == (2, *full.packed_size())


def test_size_and_cost_grow_with_the_tiles() -> None:
    encoder, alone = build("clip"), build("clip", tiles=1)
    family, config = type(encoder), encoder.backbone.config
    assert family.transform(encoder.spec, config).size == (32, 32)
    assert family.transform(alone.spec, config).size == (16, 16)
    cost = family.cost(encoder.spec, config)
    assert (cost.tokens, cost.tiles, cost.given) == (17, 4, 68)


def test_cutting_and_joining_undo_each_other() -> None:
    places = torch.arange(2 * 6 * 9, dtype=torch.float32).reshape(2, 1, 6, 9)
    tiles = cut_tiles(places, 3)
    assert tiles.shape == (18, 1, 2, 3)
    joined = join_tiles(tiles.flatten(2).transpose(1, 2), (2, 3), 3)
    assert torch.equal(joined[..., 0], places.flatten(1))


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(PartError, match="of 33 x 33 pixels are not 2 x 2 tiles"):
        build("clip")(pixels(33))
    with pytest.raises(RecipeError, match="detr gives objects, not patches"):
        parse_encoder({"name": "d", "family": "detr", "tiles": 2})
    with pytest.raises(RecipeError, match=r"encoders\.m\.tiles: patches are hidden"):
        parse_encoder({"name": "m", "family": "mae", "tiles": 2, "mask_ratio": 0.5})
    with pytest.raises(RecipeError, match="tiles: 0 is not a whole number of at least 1"):
        parse_encoder({"name": "c", "family": "clip", "tiles": 0})


def encoders(parts: Path, tiles: int) -> list[dict[str, Any]]:
    """CLIP over tiles and DINOv2 over the whole, on one grid."""
    clip, dino = tiny.model_block(parts)["encoders"]
    return [{**clip, "tiles": tiles, "resample": [4, 4]}, {**dino, "resample": [4, 4]}]


@torch.no_grad()
def test_one_encoder_sees_tiles_and_the_other_the_whole(
    build: Callable[..., Any], parts: Path
) -> None:
    model, processor = build(encoders=encoders(parts, 2))
    found = processor.pixels([Image.new("RGB", (20, 12))])
    side = tiny.IMAGE_SIZE
    assert found["pixel_values_clip"].shape[-2:] == (2 * side, 2 * side)
    assert found["pixel_values_dinov2"].shape[-2:] == (side, side)
    evidence = model.encode_images(**found)
    assert evidence.tokens.shape[1] == model.config.visual_tokens == 16


def test_boxes_are_written_as_without_tiles(build: Callable[..., Any], parts: Path) -> None:
    question = Turn("user", "<image>\nWhere is the square?")
    answer = Turn("assistant", "At <boxes>.", boxes=(((3.0, 2.0, 9.0, 8.0),),))
    sample = Sample("s", ("picture.png",), (question, answer))
    rows = [
        build(encoders=encoders(parts, tiles))[1].encode_text(sample, [(20, 12)])
        for tiles in (1, 2)
    ]
    assert torch.equal(rows[0]["input_ids"], rows[1]["input_ids"])
    assert torch.equal(rows[0]["labels"], rows[1]["labels"])
