"""Interleaved mixture of features: order, parity with a slow reference, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.interleaved import InterleavedFusion
from manyeyes.records import GridFeatures

SHAPES = {"clip": GridShape(6, (2, 4), (3,)), "dinov2": GridShape(8, (2, 4), (4,))}


def build(
    shapes: dict[str, GridShape] = SHAPES, out_width: int = 5, **options: Any
) -> InterleavedFusion:
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "interleaved", **options})
    cls.check(parsed, shapes)
    make: Any = cls
    fusion = make(parsed, shapes, out_width)
    assert isinstance(fusion, InterleavedFusion)
    return fusion


def bundle(shapes: dict[str, GridShape] = SHAPES) -> dict[str, GridFeatures]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: GridFeatures(
            (torch.randn(2, shape.num_patches, shape.width, generator=generator),),
            shape.level_indices,
            shape.grid,
        )
        for name, shape in shapes.items()
    }


def tokens(fusion: InterleavedFusion, features: dict[str, GridFeatures]) -> Tensor:
    found = fusion(features).tokens
    assert found is not None
    return found


def slow_mlp(layers: Any, x: Tensor) -> Tensor:
    """Linear, GELU, Linear of one vector, in float64."""
    first, _, second = layers
    hidden = first.weight.double() @ x + first.bias.double()
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    return second.weight.double() @ hidden + second.bias.double()


@torch.no_grad()
def test_tokens_equal_a_slow_reference_in_the_order_of_the_patches() -> None:
    fusion, features = build(), bundle()
    found = tokens(fusion, features)
    assert found.shape == (2, 16, 5)
    for image in range(2):
        place = 0
        for patch in range(8):
            for name in ("clip", "dinov2"):
                x = features[name].levels[0][image, patch].double()
                expected = slow_mlp(fusion.projectors[name], x)
                torch.testing.assert_close(found[image, place].double(), expected)
                place += 1


@torch.no_grad()
def test_a_patch_of_one_encoder_is_one_token() -> None:
    fusion, features = build(), bundle()
    before = tokens(fusion, features)
    features["dinov2"].levels[0][:, 5] += 1
    moved = (tokens(fusion, features) - before).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [11]


@torch.no_grad()
def test_encoders_stand_in_the_order_of_the_recipe() -> None:
    turned = {name: SHAPES[name] for name in ("dinov2", "clip")}
    fusion, other, features = build(), build(turned), bundle()
    other.load_state_dict(fusion.state_dict())
    pairs = tokens(fusion, features).unflatten(1, (8, 2))
    assert torch.equal(tokens(other, features).unflatten(1, (8, 2)), pairs.flip(2))


def test_merged_patches_and_a_linear_projector() -> None:
    fusion: Any = build(projector="linear", merge_patches=2)
    assert tokens(fusion, bundle()).shape == (2, 4, 5)
    widths = {name: projector[0].in_features for name, projector in fusion.projectors.items()}
    assert widths == {"clip": 24, "dinov2": 32}
    assert [len(projector) for projector in fusion.projectors.values()] == [1, 1]
    cls, options = parse_fusion({"name": "interleaved", "merge_patches": 2})
    assert cls.planned(options, SHAPES).tokens == 4
    assert cls.planned(parse_fusion({"name": "interleaved"})[1], SHAPES).tokens == 16


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (GridShape(8, (4, 4), (4,)), r"clip 2x4, dinov2 4x4.*`resample: \[rows, columns\]`"),
        (GridShape(8, (2, 4), (3, 4)), r"'interleaved' takes one level of 'dinov2', got \(3, 4\)"),
    ],
)
def test_encoders_that_do_not_suit_are_named(shape: GridShape, message: str) -> None:
    with pytest.raises(PartError, match=message):
        build({**SHAPES, "dinov2": shape})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projector": "mlp"}, "fusion.projector: 'mlp' is not one of"),
        ({"projecter": "linear"}, "did you mean 'projector'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(**options)


def test_a_factor_that_does_not_divide_the_grid_is_named() -> None:
    cls, options = parse_fusion({"name": "interleaved", "merge_patches": 3})
    with pytest.raises(PartError, match="merge_patches 3 does not divide the grid 2x4"):
        cls.planned(options, SHAPES)
