"""What every row of FUSIONS keeps: shapes, gradients, missing encoders, each encoder matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lion_parts import stir
from manyeyes.encoders import GridShape, ObjectShape, Shape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import FUSIONS, Fusion, parse_fusion
from manyeyes.layers.attention.maps import watching
from manyeyes.records import Features, GridFeatures, ObjectFeatures, VisualEvidence

ENCODERS = {
    "single": ("clip",),
    "concat": ("clip", "dinov2", "mae"),
    "comm": ("clip", "dinov2"),
    "cross_attention": ("clip", "dinov2", "mae"),
    "deepseek_hybrid": ("clip", "dinov2"),
    "deepstack": ("clip", "dinov2"),
    "interleaved": ("clip", "dinov2", "mae"),
    "lion": ("clip",),
    "llama_adapter_v2": ("clip",),
    "qformer": ("clip",),
    "shared_queries": ("clip", "detector"),
    "sva": ("clip", "dinov2", "mae"),
    "xformer": ("clip", "mae"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "cross_attention": {"depth": 2, "heads": 2, "ffn": 16},
    "lion": {
        "width": 8,
        "heads": 2,
        "layers": 2,
        "ffn": 16,
        "queries": 4,
        "dropout": 0.0,
        "text": "none",
        "aggregator_heads": 2,
        "aggregator_ffn": 16,
    },
    "llama_adapter_v2": {"width": 8, "heads": 2, "depth": 2},
    "qformer": {"width": 8, "heads": 2, "layers": 2, "ffn": 16, "queries": 4, "dropout": 0.0},
    "shared_queries": {"width": 8, "heads": 2, "visual_depth": 2, "queries": 4},
    "sva": {"width": 8, "heads": 2, "depth": 2, "groups": 2, "grid": (1, 2)},
    "xformer": {"width": 8, "heads": 2, "layers": 2, "ffn": 16, "queries": 4, "dropout": 0.0},
}
"""Small sizes, where the defaults are a real model's."""
LEVELS = {"deepstack": (1, 2, 3), "lion": (1, 2, 3)}
"""Of each encoder, for fusions that need more than one."""
FOLDING = (
    "comm",
    "concat",
    "cross_attention",
    "deepseek_hybrid",
    "deepstack",
    "interleaved",
    "single",
)
"""Fusions with ``merge_patches``."""
STARTS_AT_ZERO = {"cross_attention"}
"""Fusions in which a fresh encoder says nothing yet."""


def declared(encoder: str, place: int, levels: tuple[int, ...] = (3,)) -> Shape:
    width = 8 + 2 * place
    return ObjectShape(width, 5) if encoder == "detector" else GridShape(width, (2, 2), levels)


def drawn(shape: Shape) -> Features:
    if isinstance(shape, GridShape):
        levels = tuple(torch.randn(3, 4, shape.width) for _ in shape.level_indices)
        return GridFeatures(levels, shape.level_indices, (2, 2))
    boxes, logits = torch.rand(3, 5, 4), torch.randn(3, 5, 2)
    return ObjectFeatures(torch.randn(3, 5, shape.width), boxes, logits, ("cup",))


def changed(features: Features) -> Features:
    if isinstance(features, ObjectFeatures):
        return replace(features, queries=features.queries + 1.5 * features.queries.sin())
    assert isinstance(features, GridFeatures)
    return replace(features, levels=tuple(x + 1.5 * x.sin() for x in features.levels))


def given(evidence: VisualEvidence) -> torch.Tensor:
    """Tokens or prompts, of which a fusion fills one; tokens for layers stand behind the tokens."""
    (part,) = [x for x in (evidence.tokens, evidence.prompts) if x is not None]
    if evidence.layers is None:
        return part
    return torch.cat([part, evidence.layers.flatten(1, 2)], dim=1)


def setup(name: str) -> tuple[Fusion, dict[str, Shape], dict[str, Features]]:
    torch.manual_seed(0)
    levels = LEVELS.get(name, (3,))
    shapes = {encoder: declared(encoder, i, levels) for i, encoder in enumerate(ENCODERS[name])}
    cls, options = parse_fusion({"name": name, **OPTIONS.get(name, {})})
    cls.check(options, cls.accept(shapes))
    build: Any = cls
    fusion = build(options, shapes, 6)
    if name in STARTS_AT_ZERO:
        stir(fusion)
    return fusion, shapes, {n: drawn(shape) for n, shape in shapes.items()}


def test_every_fusion_is_tested_here() -> None:
    assert set(ENCODERS) == set(FUSIONS)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_tokens_and_prompts_have_the_announced_shape(name: str) -> None:
    fusion, shapes, features = setup(name)
    cls, options = parse_fusion({"name": name, **OPTIONS.get(name, {})})
    evidence = fusion(features)
    plan = cls.planned(options, cls.accept(shapes))
    if plan.prompts:
        assert evidence.tokens is None and plan.tokens == 0
        assert given(evidence).shape == (3, 1, plan.prompts, 6)
    else:
        assert given(evidence).shape == (3, plan.tokens * (1 + plan.layers), 6)
        assert (evidence.layers is None) == (plan.layers == 0)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    fusion, _, features = setup(name)
    out = given(fusion(features))
    (out * torch.randn_like(out)).sum().backward()  # LayerNorm's squares have a fixed sum
    assert [n for n, p in fusion.named_parameters() if p.grad is None] == []


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_encoder_matters(name: str) -> None:
    fusion, _, features = setup(name)
    before = given(fusion(features))
    for encoder, kept in features.items():
        after = given(fusion({**features, encoder: changed(kept)}))
        assert float((after - before).abs().max()) > 1e-4


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_a_missing_encoder_is_named(name: str) -> None:
    fusion, _, features = setup(name)
    last = ENCODERS[name][-1]
    present = {key: value for key, value in features.items() if key != last}
    with pytest.raises(PartError, match=last):
        fusion(present)


def test_single_refuses_two_encoders_and_two_levels() -> None:
    cls, options = parse_fusion({"name": "single"})
    two = {name: GridShape(8, (2, 2), (3,)) for name in ("clip", "dinov2")}
    with pytest.raises(PartError, match="takes one encoder, got clip, dinov2"):
        cls.check(options, two)
    with pytest.raises(PartError, match="takes one level"):
        cls.check(options, {"clip": GridShape(8, (2, 2), (2, 3))})


@pytest.mark.parametrize("name", sorted(set(FUSIONS) - {"shared_queries"}))
def test_a_detector_is_refused_where_objects_are_not_read(name: str) -> None:
    cls, _ = parse_fusion({"name": name})
    with pytest.raises(PartError, match="'detector' gives detected objects"):
        cls.accept({"clip": GridShape(8, (2, 2), (3,)), "detector": ObjectShape(8, 5)})


def test_an_unknown_fusion_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'comm'"):
        parse_fusion({"name": "com"})
    with pytest.raises(RecipeError, match="missing key name"):
        parse_fusion({})


@pytest.mark.parametrize("name", FOLDING)
@pytest.mark.parametrize("factor", [0, -1, 1.5, True])
def test_patches_are_folded_by_whole_numbers(name: str, factor: object) -> None:
    with pytest.raises(RecipeError, match=r"merge_patches: .* is not a whole number of at least 1"):
        parse_fusion({"name": name, "merge_patches": factor})


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_watched_attentions_say_what_was_read_and_leave_the_pass_alone(name: str) -> None:
    fusion, _, features = setup(name)
    fusion.eval()
    sites = fusion.attentions()
    before = given(fusion(features))
    with watching(sites) as found:
        assert torch.equal(given(fusion(features)), before)
    assert list(found) == [site.title for site in sites]
    for site in sites:
        weights, read = found[site.title], [features[encoder] for encoder in site.encoders]
        assert weights.shape[0] == 3 and weights.dtype == torch.float32
        assert weights.shape[-1] == site.joint + sum(5 if hasattr(f, "boxes") else 4 for f in read)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        assert weights.std(dim=-1).max() > 0
    found.clear()
    fusion(features)
    assert not found


def test_fusions_whose_queries_read_the_image_say_so() -> None:
    watched = {name for name in FUSIONS if setup(name)[0].attentions()}
    queries = {"lion", "llama_adapter_v2", "qformer", "shared_queries", "xformer"}
    assert watched == {"cross_attention", *queries}
