"""COMM against its equations: the acceptance checks that need no language model."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.comm import CommFusion
from manyeyes.layers.level_merge import MERGES, LevelMerge
from manyeyes.layers.mlp import MlpStack
from manyeyes.records import GridFeatures

CLIP, DINO = tuple(range(1, 25)), tuple(range(19, 25))


def shapes(
    width: int = 8, grid: tuple[int, int] = (2, 3), clip: Any = (1, 2, 3), dino: Any = (3, 4)
) -> dict[str, GridShape]:
    return {"clip": GridShape(width, grid, clip), "dinov2": GridShape(width, grid, dino)}


def bundle(of: dict[str, GridShape], images: int = 2, seed: int = 0) -> dict[str, GridFeatures]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: GridFeatures(
            tuple(
                torch.randn(images, shape.num_patches, shape.width, generator=generator)
                for _ in shape.level_indices
            ),
            shape.level_indices,
            shape.grid,
        )
        for name, shape in of.items()
    }


def build(of: dict[str, GridShape] | None = None, out_width: int = 5, **options: Any) -> CommFusion:
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "comm", **options})
    of = of or shapes()
    cls.check(parsed, of)
    fusion = cls(parsed, of, out_width)  # type: ignore[call-arg]
    assert isinstance(fusion, CommFusion)
    return fusion


def tokens(fusion: CommFusion, features: dict[str, GridFeatures]) -> Tensor:
    found = fusion(features).tokens
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("side", "join", "count", "joined"),
    [
        (24, "channel", 576, 16),
        (24, "token", 1152, 8),
        (24, "sum", 576, 8),
        (16, "channel", 256, 16),
    ],
)
def test_comm_check_01_shapes(side: int, join: str, count: int, joined: int) -> None:
    of = shapes(grid=(side, side))
    fusion = build(of, join=join)
    assert tokens(fusion, bundle(of, images=1)).shape == (1, count, 5)
    assert fusion.projector[0].in_features == joined
    assert fusion.planned(fusion.options, of).tokens == count
    assert all(x.shape == (1, side * side, 8) for x in fusion.branches(bundle(of, 1)).values())


def slow_comm(fusion: CommFusion, features: dict[str, GridFeatures]) -> Tensor:
    """COMM §1.3-1.5 token by token, from the equations."""
    merged = []
    for name in ("clip", "dinov2"):
        merger = fusion.mergers[name]
        logits = merger.scales.detach().double()
        weights = (logits - logits.max()).exp()
        weights = weights / weights.sum()
        total = torch.zeros_like(features[name].levels[0], dtype=torch.float64)
        for i, level in enumerate(features[name].levels):
            norm, linear = merger.maps[i]
            for image, patch in itertools.product(range(level.shape[0]), range(level.shape[1])):
                x = level[image, patch].double()
                x = (x - x.mean()) / (x.var(unbiased=False) + norm.eps).sqrt()
                x = x * norm.weight.double() + norm.bias.double()
                total[image, patch] += weights[i] * (linear.weight.double() @ x + linear.bias)
        merged.append(total)
    for block in fusion.align["dinov2"].blocks:
        first, _, second = block
        hidden = merged[1] @ first.weight.double().T + first.bias
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
        merged[1] = hidden @ second.weight.double().T + second.bias
    (out,) = fusion.projector
    return torch.cat(merged, dim=-1) @ out.weight.double().T + out.bias


@torch.no_grad()
def test_comm_equals_a_slow_reference_written_from_the_equations() -> None:
    fusion, features = build(mlp_blocks=2), bundle(shapes())
    for merger in fusion.mergers.values():
        merger.scales.copy_(torch.linspace(-1, 2, len(merger.scales)))
        for norm, _ in merger.maps:
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    torch.testing.assert_close(
        tokens(fusion, features).double(), slow_comm(fusion, features), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("merge", [m for m in MERGES if m not in ("conv_layerscale", "single")])
def test_comm_check_03_permuting_patches_permutes_the_output(merge: str) -> None:
    of, order = shapes(), torch.randperm(6, generator=torch.Generator().manual_seed(3))
    fusion, features = build(of, merge=merge), bundle(of)
    shuffled = {
        name: GridFeatures(tuple(x[:, order] for x in f.levels), f.level_indices, f.grid)
        for name, f in features.items()
    }
    torch.testing.assert_close(tokens(fusion, shuffled), tokens(fusion, features)[:, order])


@torch.no_grad()
def test_convolution_sees_neighbours_so_permutation_matters() -> None:
    of, order = shapes(), torch.tensor([5, 4, 3, 2, 0, 1])
    fusion, features = build(of, merge="conv_layerscale").eval(), bundle(of)
    shuffled = {
        name: GridFeatures(tuple(x[:, order] for x in f.levels), f.level_indices, f.grid)
        for name, f in features.items()
    }
    difference = tokens(fusion, shuffled) - tokens(fusion, features)[:, order]
    assert float(difference.abs().max()) > 1e-3


def test_comm_check_05_zero_logits_are_uniform() -> None:
    weights = LevelMerge(8, 24, merge="lln_layerscale").weights().detach()
    torch.testing.assert_close(weights, torch.full((24,), 1 / 24), rtol=0, atol=1e-6)
    assert abs(float(weights.sum()) - 1) < 1e-6
    torch.testing.assert_close(
        LevelMerge(8, 6, merge="layerscale", weight_norm="none").weights(), torch.full((6,), 1 / 6)
    )


def test_comm_check_06_layerscale_with_uniform_weights_is_the_mean() -> None:
    levels = [torch.randn(2, 6, 8) for _ in range(12)]
    scaled = LevelMerge(8, 12, merge="layerscale")(levels, (2, 3))
    mean = LevelMerge(8, 12, merge="mean")(levels, (2, 3))
    torch.testing.assert_close(scaled, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mean, torch.stack(levels).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_comm_check_06_mean_half_uses_levels_13_to_24() -> None:
    from manyeyes.encoders.levels import parse_levels

    assert parse_levels("13-24", 24, "clip") == tuple(range(13, 25))
    assert len(parse_levels("13-24", 24, "clip")) == 12


@torch.no_grad()
@pytest.mark.parametrize("merge", ["lln_layerscale", "layerscale"])
def test_comm_check_07_one_hot_weights_give_one_level(merge: str) -> None:
    merger, levels = LevelMerge(8, 4, merge=merge), [torch.randn(2, 6, 8) for _ in range(4)]
    merger.scales.copy_(torch.tensor([-1e4, -1e4, 0.0, -1e4]))
    expected = merger.maps[2](levels[2]) if merge == "lln_layerscale" else levels[2]
    assert torch.equal(merger(levels, (2, 3)), expected)


@torch.no_grad()
def test_comm_check_08_scale_of_a_level() -> None:
    levels = [torch.randn(2, 6, 8) for _ in range(3)]
    louder = [levels[0], 7 * levels[1], levels[2]]
    norm_first = LevelMerge(8, 3, merge="lln_layerscale")
    torch.testing.assert_close(
        norm_first(louder, (2, 3)), norm_first(levels, (2, 3)), rtol=1e-4, atol=1e-4
    )
    plain = LevelMerge(8, 3, merge="layerscale")
    assert float((plain(louder, (2, 3)) - plain(levels, (2, 3))).abs().max()) > 1


@torch.no_grad()
@pytest.mark.parametrize(("count", "std", "tolerance"), [(24, 0.118, 0.01), (6, 0.237, 0.02)])
def test_comm_check_09_output_scale_at_default_init(
    count: int, std: float, tolerance: float
) -> None:
    torch.manual_seed(0)
    merger = LevelMerge(1024, count, merge="lln_layerscale")
    merged = merger([torch.randn(1, 32, 1024) for _ in range(count)], (4, 8))
    assert abs(float(merged.std()) - std) < tolerance


@torch.no_grad()
def test_comm_check_12_channel_join_is_a_sum_of_two_projections() -> None:
    fusion, features = build(), bundle(shapes())
    first, second = fusion.branches(features).values()
    (out,) = fusion.projector
    expected = first @ out.weight[:, :8].T + second @ out.weight[:, 8:].T + out.bias
    torch.testing.assert_close(tokens(fusion, features), expected, rtol=1e-5, atol=1e-5)
    out.weight[:, 8:] = 0
    clip_only = build({"clip": shapes()["clip"]}, align="none")
    clip_only.mergers["clip"].load_state_dict(fusion.mergers["clip"].state_dict())
    clip_only.projector[0].weight.copy_(out.weight[:, :8])
    clip_only.projector[0].bias.copy_(out.bias)
    torch.testing.assert_close(
        tokens(fusion, features), tokens(clip_only, {"clip": features["clip"]})
    )


def test_comm_check_13_dinov2_enters_only_through_the_second_half() -> None:
    fusion, features = build(), bundle(shapes())
    other = {**features, "dinov2": bundle(shapes(), seed=9)["dinov2"]}
    before, after = fusion.branches(features), fusion.branches(other)
    assert torch.equal(before["clip"], after["clip"])
    assert not torch.allclose(before["dinov2"], after["dinov2"])


@torch.no_grad()
def test_comm_check_24_deep_plain_stacks_lose_the_signal() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 1024)

    def spread(residual: bool) -> float:
        stack = MlpStack(1024, num_blocks=8, ratio=4, activation="gelu", residual=residual)
        return float(stack(x).std(dim=0).mean())

    assert spread(residual=False) < 1e-5
    assert spread(residual=True) > 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"merge": merge, "join": join, "align": align}
        for merge in MERGES
        if merge != "single"
        for join in ("channel", "sum", "token")
        for align in ("mlp", "linear", "none")
    ]
    + [
        {"weight_norm": "none"},
        {"lln_order": "linear_ln"},
        {"lln_shared": True},
        {"mlp_blocks": 2, "mlp_ratio": 8},
        {"mlp_residual": True, "mlp_act": "relu"},
        {"projector": "mlp2x"},
        {"align_encoders": ["clip", "dinov2"]},
    ],
)
def test_every_variant_runs_and_every_parameter_learns(options: dict[str, Any]) -> None:
    of = shapes()
    fusion = build(of, **options)
    tokens(fusion, bundle(of)).square().sum().backward()
    without = [name for name, p in fusion.named_parameters() if p.grad is None]
    assert without == []


@torch.no_grad()
def test_linear_ln_gives_each_level_unit_scale() -> None:
    merger = LevelMerge(64, 1, merge="lln_layerscale", lln_order="linear_ln")
    merged = merger([torch.randn(1, 50, 64) * 30], (5, 10))
    assert abs(float(merged.std()) - 1) < 0.05


def test_a_shared_lln_has_one_copy() -> None:
    assert len(LevelMerge(8, 24, merge="lln_layerscale", lln_shared=True).maps) == 1
    assert len(LevelMerge(8, 24, merge="lln_layerscale").maps) == 24


def test_merged_patches_are_fewer_and_wider() -> None:
    of = shapes(grid=(4, 6))
    fusion = build(of, merge_patches=2)
    assert tokens(fusion, bundle(of)).shape == (2, 6, 5)
    assert fusion.projector[0].in_features == 16 * 4
    with pytest.raises(PartError, match="does not divide the grid 2x3"):
        build(merge_patches=2)


def test_single_takes_one_level_per_encoder() -> None:
    with pytest.raises(PartError, match="takes one level per encoder"):
        build(merge="single")
    of = shapes(clip=(23,), dino=(24,))
    assert tokens(build(of, merge="single"), bundle(of)).shape == (2, 6, 5)


def test_grids_must_match_without_a_resampler() -> None:
    of = {"clip": GridShape(8, (2, 3), (1,)), "dinov2": GridShape(8, (4, 4), (1,))}
    with pytest.raises(PartError, match=r"clip 2x3, dinov2 4x4.*resample"):
        build(of)


def test_deep_plain_stacks_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="lose the signal") as caught:
        build(mlp_blocks=4)
    assert len(caught) == 1


def test_level_weights_are_reported() -> None:
    weights = build().level_weights()
    assert {name: len(w) for name, w in weights.items()} == {"clip": 3, "dinov2": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merg": "mean"}, "did you mean 'merge'"),
        ({"merge": "maen"}, "did you mean 'mean'"),
        ({"join": "channels"}, "did you mean 'channel'"),
        ({"align_encoders": ["dino"]}, "not an encoder"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, PartError), match=message):
        build(**options)
