"""What every row of FUSIONS keeps: shapes, gradients, missing encoders, each encoder matters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import FUSIONS, Fusion, parse_fusion
from manyeyes.records import GridFeatures

ENCODERS = {"single": ("clip",), "concat": ("clip", "dinov2", "mae"), "comm": ("clip", "dinov2")}


def setup(name: str) -> tuple[Fusion, dict[str, GridShape], dict[str, GridFeatures]]:
    torch.manual_seed(0)
    shapes = {
        encoder: GridShape(8 + 2 * i, (2, 2), (3,)) for i, encoder in enumerate(ENCODERS[name])
    }
    cls, options = parse_fusion({"name": name})
    cls.check(options, shapes)
    features = {
        encoder: GridFeatures((torch.randn(3, 4, shape.width),), (3,), (2, 2))
        for encoder, shape in shapes.items()
    }
    build: Any = cls
    return build(options, shapes, 6), shapes, features


def test_every_fusion_is_tested_here() -> None:
    assert set(ENCODERS) == set(FUSIONS)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_tokens_have_the_announced_shape(name: str) -> None:
    fusion, shapes, features = setup(name)
    _, options = parse_fusion({"name": name})
    evidence = fusion(features)
    assert evidence.tokens is not None
    assert evidence.tokens.shape == (3, FUSIONS[name].num_tokens(options, shapes), 6)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    fusion, _, features = setup(name)
    fusion(features).tokens.square().sum().backward()
    assert [n for n, p in fusion.named_parameters() if p.grad is None] == []


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_encoder_matters(name: str) -> None:
    fusion, _, features = setup(name)
    before = fusion(features).tokens
    for encoder, kept in features.items():
        other = GridFeatures(tuple(x + 1.5 * x.sin() for x in kept.levels), (3,), (2, 2))
        assert float((fusion({**features, encoder: other}).tokens - before).abs().max()) > 1e-4


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


def test_an_unknown_fusion_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'comm'"):
        parse_fusion({"name": "com"})
    with pytest.raises(RecipeError, match="missing key name"):
        parse_fusion({})
