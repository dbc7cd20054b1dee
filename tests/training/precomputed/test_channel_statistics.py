"""`feature_norm: standardize`: measured once before the first step, kept by the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import PartError
from manyeyes.images.reading import load_image
from manyeyes.recipes import Recipe
from manyeyes.training import train
from manyeyes.training.precomputed.channel_statistics import spread
from training_runs import weights

MakeRecipe = Callable[..., Recipe]


def block(parts: Path, kind: str) -> dict[str, Any]:
    """COMM over CLIP as it is and DINOv2 with ``feature_norm``."""
    model = tiny.model_block(parts)
    clip, dino = model["encoders"]
    return {**model, "encoders": [clip, {**dino, "feature_norm": kind}]}


def features(folder: Path, data: Path) -> list[torch.Tensor]:
    """The levels of DINOv2, ``[patches of all training images, D]``."""
    model = ManyEyesForConditionalGeneration.from_pretrained(folder)
    processor = ManyEyesProcessor.from_pretrained(folder)
    images = [load_image(str(path)) for path in sorted(data.rglob("*.png"))]
    assert len(images) == 12
    with torch.no_grad():
        found: Any = model.encode(**processor.pixels(images))["dinov2"]
    return [level.flatten(0, 1) for level in found.levels]


def test_measured_over_the_training_images_and_kept(
    make_recipe: MakeRecipe, parts: Path, data: Path, tmp_path: Path
) -> None:
    stored = ("stages.0.cache_features=true", "stages.0.training.max_steps=2")
    recipe = make_recipe(*stored, model=block(parts, "standardize"))
    train(recipe, tmp_path / "out", data_dir=data)
    for level in features(tmp_path / "out" / "model", data):
        width = level.shape[1]
        torch.testing.assert_close(level.mean(dim=0), torch.zeros(width), atol=1e-4, rtol=0)
        spread = level.std(dim=0, correction=0)
        torch.testing.assert_close(spread, torch.ones(width), atol=1e-3, rtol=0)
    names = [f"encoders.dinov2.feature_norm.channels.{place}.mean" for place in (0, 1)]
    first = weights(tmp_path / "out" / "align" / "checkpoint-2")
    last = weights(tmp_path / "out" / "model")
    assert all(torch.equal(first[name], last[name]) for name in names)
    assert not any(name.startswith("encoders.clip.feature_norm") for name in last)


def test_a_model_that_nobody_trained_says_so(build: Callable[..., Any], parts: Path) -> None:
    model, processor = build(encoders=block(parts, "standardize")["encoders"])
    pixels = processor.pixels([Image.new("RGB", (20, 10))])
    with pytest.raises(PartError, match="training measures them before its first step"):
        model.encode(**pixels)


@pytest.mark.parametrize(("count", "expected"), [(2, ["a", "b"]), (5, ["a", "b", "d"])])
def test_images_are_spread_over_the_data(count: int, expected: list[str]) -> None:
    assert spread(list("abcde"[:count]), 3) == expected
