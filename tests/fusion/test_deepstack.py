"""DeepStack's projectors: parity with a slow reference, which level goes where, bad input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchMerger

from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.deepstack import DeepStackFusion
from manyeyes.records import GridFeatures

SHAPES = {"siglip": GridShape(3, (2, 4), (2, 4, 6)), "dinov2": GridShape(2, (2, 4), (1, 3, 5))}


def build(shapes: dict[str, GridShape] = SHAPES, **options: Any) -> DeepStackFusion:
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "deepstack", **options})
    cls.check(parsed, shapes)
    make: Any = cls
    fusion = make(parsed, shapes, 5)
    assert isinstance(fusion, DeepStackFusion)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return fusion


def bundle(shapes: dict[str, GridShape] = SHAPES) -> dict[str, GridFeatures]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: GridFeatures(
            tuple(
                torch.randn(2, shape.num_patches, shape.width, generator=generator)
                for _ in shape.level_indices
            ),
            shape.level_indices,
            shape.grid,
        )
        for name, shape in shapes.items()
    }


def slow_merger(projector: Any, x: Tensor) -> Tensor:
    norm, first, _, second = projector
    x = (x - x.mean()) / (x.var(unbiased=False) + 1e-6).sqrt()
    x = x * norm.weight.double() + norm.bias.double()
    x = first.weight.double() @ x + first.bias.double()
    x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    found: Tensor = second.weight.double() @ x + second.bias.double()
    return found


def slow(
    projector: Any, features: dict[str, GridFeatures], image: int, level: int, factor: int
) -> Tensor:
    """The tokens of one level, one patch at a time: those of a fold row by row, then channels."""
    out = []
    for i, j in itertools.product(range(2 // factor), range(4 // factor)):
        folded = []
        for down, across in itertools.product(range(factor), range(factor)):
            place = (factor * i + down) * 4 + factor * j + across
            folded += [kept.levels[level][image][place].double() for kept in features.values()]
        out.append(slow_merger(projector, torch.cat(folded)))
    return torch.stack(out)


@torch.no_grad()
@pytest.mark.parametrize("factor", [1, 2])
def test_equals_a_slow_reference(factor: int) -> None:
    fusion, features = build(merge_patches=factor), bundle()
    evidence = fusion(features)
    assert evidence.tokens.shape == (2, 8 // factor**2, 5)
    assert evidence.layers.shape == (2, 2, 8 // factor**2, 5)
    assert fusion.plan.layers == 2 and fusion.plan.grid == (2 // factor, 4 // factor)
    for image in range(2):
        rows = [*evidence.layers[image], evidence.tokens[image]]
        projectors = [*fusion.stack, fusion.projector]
        for level, (found, projector) in enumerate(zip(rows, projectors, strict=True)):
            expected = slow(projector, features, image, level, factor)
            torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("level", [0, 1, 2])
def test_each_level_goes_to_its_own_place(level: int) -> None:
    fusion, features = build(), bundle()
    before = fusion(features)
    kept = features["dinov2"]
    levels = list(kept.levels)
    levels[level] = levels[level] + 1
    after = fusion({**features, "dinov2": GridFeatures(tuple(levels), (1, 3, 5), (2, 4))})
    moved = [not torch.equal(*pair) for pair in zip(before.layers[0], after.layers[0], strict=True)]
    moved.append(not torch.equal(before.tokens, after.tokens))
    assert moved == [place == level for place in range(3)]


def test_parameters_are_those_of_the_projectors() -> None:
    fusion = build(projector="linear", merge_patches=2)
    assert sum(p.numel() for p in fusion.parameters()) == 3 * (4 * 5 * 5 + 5)


def test_projectors_at_real_size_are_those_of_qwen3_vl() -> None:
    config = Qwen3VLVisionConfig(hidden_size=1152, out_hidden_size=4096, spatial_merge_size=2)
    shapes = {"siglip": GridShape(1152, (28, 28), (9, 17, 25, 27))}
    cls, options = parse_fusion({"name": "deepstack", "merge_patches": 2})
    make: Any = cls
    with torch.device("meta"):
        fusion = make(options, shapes, 4096)
        theirs = Qwen3VLVisionPatchMerger(config, use_postshuffle_norm=True)
    sizes = [sum(p.numel() for p in x.parameters()) for x in (*fusion.stack, theirs)]
    assert sizes == [40_125_952] * 4
    assert fusion.plan.tokens == 196 and fusion.plan.layers == 3


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ({"clip": GridShape(3, (2, 2), (5,))}, {}, "two or more levels, got 1 of 'clip'"),
        (
            {"a": GridShape(3, (2, 2), (4, 5)), "b": GridShape(3, (2, 2), (3, 4, 5))},
            {},
            r"they give \{'a': 2, 'b': 3\}",
        ),
        (
            {"a": GridShape(3, (2, 2), (4, 5)), "b": GridShape(3, (4, 4), (4, 5))},
            {},
            "a 2x2, b 4x4.*resample",
        ),
        ({"a": GridShape(3, (3, 3), (4, 5))}, {"merge_patches": 2}, "does not divide the grid 3x3"),
    ],
)
def test_encoders_that_do_not_suit_are_named(
    shapes: dict[str, GridShape], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PartError, match=message):
        build(shapes, **options)


def test_an_unknown_projector_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'merger'"):
        build(projector="mergr")
