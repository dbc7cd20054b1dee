"""An anchor that reads other encoders: parity with a slow reference, its start, and bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lion_parts import stir
from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.cross_attention import CrossAttentionFusion
from manyeyes.layers.patches import merge_patches
from manyeyes.records import GridFeatures

SHAPES = {
    "dinov2": GridShape(6, (3, 3), (4,), num_prefix=1),
    "clip": GridShape(8, (2, 4), (3,)),
    "mae": GridShape(5, (1, 2), (5,)),
}
OPTIONS: dict[str, Any] = {"anchor": "clip", "depth": 2, "heads": 2}


def build(shapes: dict[str, GridShape] = SHAPES, **options: Any) -> CrossAttentionFusion:
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "cross_attention", **OPTIONS, **options})
    cls.check(parsed, shapes)
    make: Any = cls
    fusion = make(parsed, shapes, 5)
    assert isinstance(fusion, CrossAttentionFusion)
    return fusion


def bundle(shapes: dict[str, GridShape] = SHAPES) -> dict[str, GridFeatures]:
    generator = torch.Generator().manual_seed(1)

    def drawn(count: int, width: int) -> tuple[Tensor, ...]:
        return (torch.randn(2, count, width, generator=generator),) if count else ()

    return {
        name: GridFeatures(
            drawn(shape.num_patches, shape.width),
            shape.level_indices,
            shape.grid,
            drawn(shape.num_prefix, shape.width),
        )
        for name, shape in shapes.items()
    }


def linear(module: Any, x: Tensor) -> Tensor:
    found: Tensor = module.weight.double() @ x + module.bias.double()
    return found


def norm(module: Any, x: Tensor) -> Tensor:
    x = (x - x.mean()) / (x.var(unbiased=False) + module.eps).sqrt()
    found: Tensor = x * module.weight.double() + module.bias.double()
    return found


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def slow(fusion: Any, features: dict[str, GridFeatures], image: int) -> Tensor:
    """One patch, one head, one key at a time, in float64."""
    read = []
    for name in ("dinov2", "mae"):
        kept = features[name]
        for token in [*(row[image][0] for row in kept.prefix), *kept.levels[0][image]]:
            adapter = fusion.adapters[name]
            read.append(norm(adapter[1], linear(adapter[0], token.double())))
    patches = []
    for patch in features["clip"].levels[0][image]:
        x = patch.double()
        for block in fusion.layers:
            own = block.cross.change
            query = linear(own.query, norm(block.cross.norm, x))
            heads = []
            for head in (slice(0, 4), slice(4, 8)):
                keys = [linear(own.key, y)[head] for y in read]
                scores = torch.stack([query[head] @ key for key in keys]) / math.sqrt(4)
                shares = scores.exp() / scores.exp().sum()
                values = [linear(own.value, y)[head] for y in read]
                heads.append(sum(s * v for s, v in zip(shares, values, strict=True)))
            x = x + linear(own.out, torch.cat(heads))
            if block.ffn is not None:
                first, _, second = block.ffn.change
                x = x + linear(second, gelu(linear(first, norm(block.ffn.norm, x))))
        patches.append(x)
    first, _, second = fusion.projector
    folded = merge_patches(torch.stack(patches)[None], (2, 4), fusion.options.merge_patches)[0]
    return torch.stack([linear(second, gelu(linear(first, x))) for x in folded])


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"ffn": 12}, {"merge_patches": 2}])
def test_equals_a_slow_reference(options: dict[str, Any]) -> None:
    fusion, features = build(**options), bundle()
    stir(fusion)
    found = fusion(features).tokens
    assert found.shape == (2, fusion.plan.tokens, 5)
    for image in range(2):
        expected = slow(fusion, features, image)
        torch.testing.assert_close(found[image].double(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_begins_as_the_anchor_alone() -> None:
    fusion, features = build(ffn=12), bundle()
    alone = fusion.projector(features["clip"].levels[0])
    torch.testing.assert_close(fusion(features).tokens, alone)


@torch.no_grad()
def test_the_order_of_what_is_read_does_not_matter() -> None:
    fusion, features = build(), bundle()
    stir(fusion)
    kept = features["mae"]
    turned = {**features, "mae": GridFeatures((kept.levels[0].flip(1),), (5,), (1, 2))}
    torch.testing.assert_close(fusion(turned).tokens, fusion(features).tokens)


def test_the_anchor_decides_the_grid() -> None:
    assert build().plan.grid == (2, 4)
    assert build(merge_patches=2).plan.grid == (1, 2)
    assert build(anchor=None).plan.grid == (3, 3), "the first"


def test_parameters_by_hand() -> None:
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in build().named_children()}
    norms, projections = 2 * 8, 4 * (8 * 8 + 8)
    assert sizes == {
        "adapters": (6 * 8 + 8 + norms) + (5 * 8 + 8 + norms),
        "layers": 2 * (projections + norms),
        "projector": (8 * 5 + 5) + (5 * 5 + 5),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor": "clop"}, "no encoder 'clop'.*did you mean 'clip'"),
        ({"heads": 3}, "3 does not divide the width 8 of the anchor 'clip'"),
        ({"merge_patches": 3}, "does not divide the grid 2x4"),
    ],
)
def test_what_does_not_suit_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PartError, match=message):
        build(**options)


def test_one_encoder_or_several_levels_are_refused() -> None:
    with pytest.raises(PartError, match="at least one encoder that it reads, got clip"):
        build({"clip": SHAPES["clip"]})
    with pytest.raises(PartError, match="takes one level of 'mae'"):
        build({**SHAPES, "mae": GridShape(5, (1, 2), (4, 5))})


@pytest.mark.parametrize("key", ["depth", "heads", "ffn", "merge_patches"])
def test_counts_are_whole_numbers(key: str) -> None:
    with pytest.raises(RecipeError, match=f"fusion.{key}: 0 is not a whole number"):
        build(**{key: 0})


def test_norms_and_projections_are_those_of_the_blocks() -> None:
    assert sum(isinstance(m, nn.LayerNorm) for m in build(ffn=12).modules()) == 2 + 2 * 2
