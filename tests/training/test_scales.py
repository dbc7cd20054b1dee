"""Encoders whose features differ in size by more than 10 times are named at the first batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

import tiny
from manyeyes.encoders import GridShape, parse_encoder
from manyeyes.errors import RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.layers.feature_norm import normalized_tokens
from manyeyes.layers.feature_scales import feature_scales, imbalance, watch_scales
from manyeyes.records import GridFeatures
from manyeyes.training.callbacks import ScaleCheck

SHAPES = {"clip": GridShape(8, (2, 2), (3,)), "radio": GridShape(6, (2, 2), (4,))}


def bundle(size: float) -> dict[str, GridFeatures]:
    drawn = torch.Generator().manual_seed(0)
    return {
        name: GridFeatures(
            (scale * torch.randn(3, 4, shape.width, generator=drawn),), shape.level_indices, (2, 2)
        )
        for (name, shape), scale in zip(SHAPES.items(), (1.0, size), strict=True)
    }


def comm(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "comm", "merge": "mean", **options})
    return cls(parsed, SHAPES, 16)


def test_sizes_are_root_mean_squares() -> None:
    levels = (torch.full((1, 4, 2), 3.0), torch.full((1, 4, 2), 4.0))
    assert feature_scales({"e": GridFeatures(levels, (1, 2), (2, 2))}) == pytest.approx(
        {"e": 12.5**0.5}
    )


@pytest.mark.parametrize(("size", "warned"), [(9.0, False), (40.0, True), (0.02, True)])
def test_a_warning_names_both_and_the_key(
    size: float, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fusion = comm()
    with caplog.at_level(logging.WARNING):
        state, control = TrainerState(), TrainerControl()
        holder = SimpleNamespace(fusion=fusion)
        ScaleCheck().on_train_begin(TrainingArguments("x"), state, control, model=holder)
        for _ in range(2):
            fusion(bundle(size))
    said = [r.getMessage() for r in caplog.records if "the features of encoder" in r.getMessage()]
    assert len(said) == int(warned)
    if warned:
        larger = "'radio'" if size > 1 else "'clip'"
        assert f"encoder {larger} are" in said[0] and "feature_norm: rms" in said[0]
    assert not any(module._forward_hooks for module in fusion.modules())


def test_branches_after_alignment_are_compared_too() -> None:
    said: list[str] = []
    fusion = comm()
    with torch.no_grad():
        for parameter in fusion.align.parameters():  # type: ignore[union-attr]
            parameter.mul_(30.0)
    watch_scales(fusion, said.append)
    fusion(bundle(1.0))
    assert len(said) == 1 and "the features after alignment of encoder 'radio'" in said[0]


def test_nothing_is_said_of_one_encoder_or_of_like_ones() -> None:
    assert imbalance("features", {"clip": 3.0}) is None
    assert imbalance("features", {"clip": 3.0, "dinov2": 29.0}) is None
    assert "infinitely" in str(imbalance("features", {"clip": 3.0, "dinov2": 0.0}))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_normalized_tokens_have_one_size(kind: str) -> None:
    tokens = 50 + 40 * torch.randn(2, 3, 64)
    found = normalized_tokens(tokens, kind)
    torch.testing.assert_close(found.square().mean(dim=-1), torch.ones(2, 3), rtol=1e-3, atol=1e-3)
    assert (found.mean(dim=-1).abs().amax() < 1e-4) == (kind == "layer")
    assert torch.equal(normalized_tokens(tokens, "none"), tokens)


@torch.no_grad()
def test_a_model_of_normalized_encoders_says_nothing(build: Callable[..., Any], parts: Any) -> None:
    block = tiny.model_block(parts)
    encoders = [{**entry, "feature_norm": "rms"} for entry in block["encoders"]]
    model, _ = build(encoders=encoders)
    size = model.config.pixel_transforms()
    pixels = {f"pixel_values_{n}": torch.randn(2, 3, *rule.size) for n, rule in size.items()}
    scales = feature_scales(model.encode(**pixels))
    assert scales == pytest.approx(dict.fromkeys(scales, 1.0), abs=1e-3) and len(scales) == 2


def test_a_norm_that_nobody_reads_is_refused() -> None:
    with pytest.raises(RecipeError, match="detr gives objects, not patches"):
        parse_encoder({"name": "d", "family": "detr", "feature_norm": "rms"})
    with pytest.raises(RecipeError, match="did you mean 'layer'"):
        parse_encoder({"name": "d", "family": "clip", "feature_norm": "layr"})
    mae = {"name": "m", "family": "mae", "decoder": True, "feature_norm": "rms"}
    with pytest.raises(RecipeError, match="its decoder reads features as they are"):
        parse_encoder(mae)
