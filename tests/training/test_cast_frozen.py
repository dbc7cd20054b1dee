"""Frozen parts in half precision: parameters and what is stored beside them, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import tiny_detector
from detector_families import FAMILIES, FLOAT32_ONLY, SIDE, build
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes.recipes import load_recipe
from manyeyes.training import train
from manyeyes.training.build import cast_frozen
from method_recipes import method_recipe, save_method_data, save_method_parts
from training_runs import losses, write_recipe


def model_with(parts: Path, family: str, folder: Path) -> ManyEyesForConditionalGeneration:
    encoder = build(family)
    encoder.backbone.save_pretrained(folder)
    block = tiny_detector.block(parts, width=16)
    detector = {"name": "detector", "family": family, "checkpoint": str(folder), "image_size": SIDE}
    block["encoders"][1] = detector
    config = ManyEyesConfig(**{**tiny.model_block(parts), **block})
    model = ManyEyesForConditionalGeneration.from_parts(config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("fusion.", "bridge.")))
    return model


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_every_detector_looks_alike_in_bfloat16(family: str, parts: Path, tmp_path: Path) -> None:
    model = model_with(parts, family, tmp_path)
    generator = torch.Generator().manual_seed(1)
    pixels = {
        "pixel_values_clip": torch.randn(1, 3, 16, 16, generator=generator),
        "pixel_values_detector": torch.randn(1, 3, SIDE, SIDE, generator=generator),
    }
    before, _ = model.detect(**pixels)
    cast_frozen(model, torch.bfloat16)
    expected = torch.float32 if family in FLOAT32_ONLY else torch.bfloat16
    held = {t.dtype for t in model.encoders["detector"].state_dict().values() if t.ndim}
    assert held - {torch.int64} == {expected}
    after, _ = model.detect(**pixels)
    if family in FLOAT32_ONLY:
        assert torch.equal(after.logits, before.logits)
        return
    backbone: Any = type(model.encoders["detector"].backbone)
    plain = backbone.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    own = plain(pixel_values=pixels["pixel_values_detector"].bfloat16())
    assert torch.equal(after.logits, own.logits) and torch.equal(after.boxes, own.pred_boxes)


def test_statistics_of_a_norm_that_is_trained_stay_in_float32(parts: Path, tmp_path: Path) -> None:
    model = model_with(parts, "rt_detr", tmp_path)
    norms: Any = [m for m in model.encoders["detector"].modules() if hasattr(m, "running_mean")]
    trained = next(m for m in norms if isinstance(m.weight, torch.nn.Parameter))
    trained.requires_grad_(True)
    cast_frozen(model, torch.bfloat16)
    assert trained.running_mean.dtype == trained.weight.dtype == torch.float32
    assert {m.running_mean.dtype for m in norms if m is not trained} == {torch.bfloat16}
    assert {p.dtype for p in model.fusion.parameters()} == {torch.float32}


def test_mr_mllm_trains_with_its_detector_in_bfloat16(tmp_path: Path) -> None:
    """Its own frozen detector looks first (``objects: {}``), then every stage computes in it."""
    parts, data = save_method_parts(tmp_path / "parts"), save_method_data(tmp_path / "data")
    finals = []
    for dtype in ("float32", "bfloat16"):
        path = write_recipe(
            tmp_path / f"{dtype}.yaml", method_recipe("mr-mllm", parts, dtype=dtype)
        )
        recipe = load_recipe(path)
        train(recipe, tmp_path / dtype, data_dir=data)
        finals.append([losses(tmp_path / dtype / stage.name) for stage in recipe.stages])
    for whole, half in zip(*finals, strict=True):
        assert len(half) == 2 and half == pytest.approx(whole, rel=3e-2)
