"""Cambrian-1's spatial aggregator: parity with a slow reference, windows, and bad input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.sva import SvaFusion
from manyeyes.layers.patches import merge_patches, split_windows
from manyeyes.records import GridFeatures

SHAPES = {
    "clip": GridShape(6, (2, 4), (3,)),
    "dinov2": GridShape(10, (4, 8), (4,)),
    "mae": GridShape(7, (6, 4), (5,)),
}
"""Windows of 1 x 1, 2 x 2 and 3 x 1 patches under a 2 x 4 grid of queries."""
SMALL: dict[str, Any] = {"width": 8, "heads": 2, "depth": 2, "groups": 2}


def build(shapes: dict[str, GridShape] = SHAPES, out_width: int = 5, **options: Any) -> SvaFusion:
    """A fusion with random weights everywhere, norms included."""
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "sva", **SMALL, **options})
    cls.check(parsed, shapes)
    make: Any = cls
    fusion = make(parsed, shapes, out_width)
    assert isinstance(fusion, SvaFusion)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return fusion


def bundle(shapes: dict[str, GridShape] = SHAPES, images: int = 2) -> dict[str, GridFeatures]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: GridFeatures(
            (torch.randn(images, shape.num_patches, shape.width, generator=generator),),
            shape.level_indices,
            shape.grid,
        )
        for name, shape in shapes.items()
    }


def tokens(fusion: SvaFusion, features: dict[str, GridFeatures]) -> Tensor:
    found = fusion(features).tokens
    assert found is not None
    return found


# ---- a slow reference, one vector at a time in float64, from the equations -----------------------


def linear(module: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(module, nn.Linear)
    out = module.weight.double() @ x
    return out if module.bias is None else out + module.bias.double()


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def norm(module: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(module, nn.LayerNorm)
    x = (x - x.mean()) / (x.var(unbiased=False) + module.eps).sqrt()
    return x * module.weight.double() + module.bias.double()


def slow_layer(
    layer: Any, x: Tensor, windows: dict[str, list[Tensor]], context: Tensor | None
) -> Tensor:
    a = x if context is None else torch.cat([x, linear(layer.context, context)])
    a = linear(layer.enter, a)
    query = linear(layer.query[1], norm(layer.query[0], a))
    keys, values = [], []
    for name, window in windows.items():
        for place, patch in enumerate(window):
            if len(window) > 1:
                patch = patch + layer.places[name][place].double()
            keys.append(linear(layer.keys[name][1], norm(layer.keys[name][0], patch)))
            values.append(linear(layer.values[name][1], norm(layer.values[name][0], patch)))
    heads = []
    for head in range(layer.heads):
        part = slice(head * 4, (head + 1) * 4)
        scores = torch.stack([query[part] @ key[part] for key in keys]) / math.sqrt(4)
        shares = scores.exp() / scores.exp().sum()
        heads.append(sum(s * value[part] for s, value in zip(shares, values, strict=True)))
    b = norm(layer.norm, a + linear(layer.out, torch.cat(heads)))
    return x + linear(layer.mlp[2], gelu(linear(layer.mlp[0], b)))


def slow_sva(fusion: Any, features: dict[str, GridFeatures], image: int) -> Tensor:
    maps: dict[str, list[Tensor]] = {}
    for name, kept in features.items():
        first, _, second, last = fusion.adapters[name]
        maps[name] = [
            norm(last, linear(second, gelu(linear(first, patch.double()))))
            for patch in kept.levels[0][image]
        ]
    context = torch.stack(maps["clip"]).mean(dim=0) if fusion.context else None
    out = []
    for i, j in itertools.product(range(2), range(4)):
        windows = {}
        for name, kept in features.items():
            (rows, columns), (high, wide) = kept.grid, (kept.grid[0] // 2, kept.grid[1] // 4)
            windows[name] = [
                maps[name][row * columns + column]
                for row, column in itertools.product(range(rows), range(columns))
                if high * i <= row < high * (i + 1) and wide * j <= column < wide * (j + 1)
            ]
        groups = []
        for query, layers in zip(fusion.queries, fusion.groups, strict=True):
            x = query.double()
            for layer in layers:
                x = slow_layer(layer, x, windows, context)
            groups.append(x)
        first, _, second = fusion.projector
        out.append(linear(second, gelu(linear(first, torch.cat(groups)))))
    return torch.stack(out)


@torch.no_grad()
@pytest.mark.parametrize("context", [True, False])
def test_sva_equals_a_slow_reference_written_from_the_equations(context: bool) -> None:
    fusion, features = build(context=context), bundle()
    found = tokens(fusion, features)
    assert found.shape == (2, 8, 5)
    for image in range(2):
        expected = slow_sva(fusion, features, image)
        torch.testing.assert_close(found[image].double(), expected, rtol=1e-4, atol=1e-5)


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SHAPES))
@torch.no_grad()
def test_a_query_reads_its_own_window_of_every_encoder_and_nothing_else(name: str) -> None:
    fusion, features = build(context=False), bundle()
    before = tokens(fusion, features)
    rows, columns = SHAPES[name].grid
    for row, column in itertools.product(range(rows), range(columns)):
        kept = features[name].levels[0].clone()
        kept[:, row * columns + column] += 1
        changed = {**features, name: GridFeatures((kept,), (0,), (rows, columns))}
        moved = (tokens(fusion, changed) - before).abs().amax(dim=(0, 2)) > 0
        place = (row * 2 // rows) * 4 + column * 4 // columns
        assert moved.nonzero().flatten().tolist() == [place]


@torch.no_grad()
def test_with_context_every_query_reads_the_mean_of_the_first_encoder_alone() -> None:
    fusion, features = build(), bundle()
    before = tokens(fusion, features)
    for name, count in (("clip", 8), ("dinov2", 1)):
        kept = features[name].levels[0].clone()
        kept[:, 0] += 1
        changed = {**features, name: GridFeatures((kept,), (0,), SHAPES[name].grid)}
        moved = (tokens(fusion, changed) - before).abs().amax(dim=(0, 2)) > 0
        assert int(moved.sum()) == count


def test_windows_are_cut_row_by_row() -> None:
    patches = torch.arange(24.0).reshape(1, 24, 1)
    windows = split_windows(patches, (4, 6), (2, 3))
    assert windows.shape == (1, 6, 4, 1)
    assert windows[0, 1, :, 0].tolist() == [2, 3, 8, 9]
    assert windows[0, 3, :, 0].tolist() == [12, 13, 18, 19]
    assert torch.equal(merge_patches(patches, (4, 6), 2), windows.flatten(2))


@torch.no_grad()
def test_where_a_patch_lies_in_its_window_matters() -> None:
    fusion, features = build(context=False), bundle()
    kept = features["dinov2"].levels[0].clone()
    kept[:, [0, 1]] = kept[:, [1, 0]]
    turned = {**features, "dinov2": GridFeatures((kept,), (0,), (4, 8))}
    assert float((tokens(fusion, turned) - tokens(fusion, features))[:, 0].abs().max()) > 1e-3


# ---- sizes and bad input -------------------------------------------------------------------------


def test_the_grid_of_queries_sets_the_tokens_and_is_the_smallest_by_default() -> None:
    for grid, count in (([2, 4], 8), ([1, 2], 2), (None, 8)):
        cls, options = parse_fusion({"name": "sva", **SMALL, "grid": grid})
        assert cls.planned(options, SHAPES).tokens == count
        assert tokens(build(grid=grid), bundle()).shape == (2, count, 5)


def test_depth_and_groups_are_layers_and_channels() -> None:
    fusion: Any = build(depth=3, groups=4)
    assert [len(layers) for layers in fusion.groups] == [3] * 4
    assert fusion.queries.shape == (4, 8)
    assert fusion.projector[0].in_features == 32
    assert {*fusion.groups[0][0].places} == {"dinov2", "mae"}


@pytest.mark.parametrize("levels", [(3, 4), ()])
def test_one_level_of_each_encoder_is_read(levels: tuple[int, ...]) -> None:
    with pytest.raises(PartError, match="'sva' takes one level of 'mae'"):
        build({**SHAPES, "mae": GridShape(7, (6, 4), levels)})


def test_a_grid_that_is_not_divided_is_named() -> None:
    message = r"query grid 2x4 does not divide the grid 5x5 of 'mae'.*fusion.grid.*resample"
    with pytest.raises(PartError, match=message):
        build({**SHAPES, "mae": GridShape(7, (5, 5), (5,))})
    with pytest.raises(PartError, match="query grid 4x8 does not divide the grid 2x4 of 'clip'"):
        build(grid=[4, 8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10, "heads": 4}, "fusion.heads: 4 heads do not divide the width 10"),
        ({"depth": 0}, "fusion.depth: 0 is not a whole number of at least 1"),
        ({"groups": "2"}, "fusion.groups: '2' is not a whole number"),
        ({"grid": 8}, r"fusion.grid: 8 is not \[rows, columns\]"),
        ({"grid": [2, 2, 2]}, r"fusion.grid: \(2, 2, 2\) is not \[rows, columns\]"),
        ({"grid": [0, 2]}, "fusion.grid.rows: 0 is not a whole number"),
        ({"context": "yes"}, "fusion.context: 'yes' is not one of True, False"),
        ({"projector": "mlp"}, "fusion.projector: 'mlp' is not one of"),
        ({"dept": 3}, "did you mean 'depth'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(**options)
