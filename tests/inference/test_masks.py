"""Masked encoders: what the fusion then sees, in any batch, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.masks import MASKS, MaskedPredictor
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.records import GridFeatures

Build = Callable[..., tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]]


@pytest.fixture
def base(build: Build) -> ModelPredictor:
    encoders = tiny.model_block(Path("."))["encoders"]
    model, processor = build()
    assert [e["name"] for e in encoders] == list(model.encoders)
    return ModelPredictor(model, processor, max_new_tokens={"short": 4})


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    folder = tiny.save_data(tmp_path / "data", samples=5)
    return [str(folder / f"{number}.png") for number in range(5)]


def seen(predictor: ModelPredictor, paths: Sequence[str]) -> dict[str, GridFeatures]:
    pixels = predictor.processor.pixels([load_image(path) for path in paths])
    with torch.no_grad():
        bundle: Any = predictor.model.encode(**pixels)
    return dict(bundle)


def equal(a: GridFeatures, b: GridFeatures) -> bool:
    return all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a.levels, b.levels, strict=True))


@pytest.mark.parametrize("mask", MASKS)
def test_only_the_masked_encoder_changes_and_only_while_it_is_masked(
    base: ModelPredictor, images: list[str], mask: str
) -> None:
    plain = seen(base, images)
    masked = MaskedPredictor(base, ["dinov2"], MASKS[mask](base, images))
    with masked._masked():
        found = seen(base, images)
    assert equal(found["clip"], plain["clip"])
    assert not equal(found["dinov2"], plain["dinov2"])
    assert found["dinov2"].level_indices == plain["dinov2"].level_indices
    assert equal(seen(base, images)["dinov2"], plain["dinov2"])


def test_zero_is_zero(base: ModelPredictor, images: list[str]) -> None:
    with MaskedPredictor(base, ["clip"], MASKS["zero"](base, images))._masked():
        found = seen(base, images[:2])["clip"]
    assert all(not level.any() for level in found.levels)


def test_mean_is_the_mean_over_the_images(base: ModelPredictor, images: list[str]) -> None:
    plain = seen(base, images)
    masked = MaskedPredictor(base, ["clip", "dinov2"], MASKS["mean"](base, images))
    with masked._masked():
        found = seen(base, images[:2])
    for name in ("clip", "dinov2"):
        for level, every in zip(found[name].levels, plain[name].levels, strict=True):
            assert torch.allclose(level, every.mean(dim=0).expand_as(level), atol=1e-5)


def test_shuffle_shows_another_image_whatever_the_batch(
    base: ModelPredictor, images: list[str]
) -> None:
    plain = seen(base, images)["clip"].levels[-1]
    with MaskedPredictor(base, ["clip"], MASKS["shuffle"](base, images))._masked():
        together = seen(base, images)["clip"].levels[-1]
        alone = torch.cat([seen(base, [path])["clip"].levels[-1] for path in images[::-1]]).flip(0)
    assert torch.allclose(together, alone, atol=1e-6)
    for place, features in enumerate(together):
        same = [bool(torch.allclose(features, other, atol=1e-6)) for other in plain]
        assert sum(same) == 1 and not same[place]


def test_masks_of_images_need_two_that_differ(
    base: ModelPredictor, images: list[str], tmp_path: Path
) -> None:
    for mask in ("mean", "shuffle"):
        with pytest.raises(UsageError, match=f"masking by {mask} needs at least two images"):
            MASKS[mask](base, images[:1])
    Image.open(images[0]).save(tmp_path / "same.png")
    twins = [images[0], str(tmp_path / "same.png")]
    masked = MaskedPredictor(base, ["clip"], MASKS["shuffle"](base, twins))
    with pytest.raises(UsageError, match="all images look the same"), masked._masked():
        seen(base, images[:1])


def test_answers_of_other_conditions_are_not_taken_for_these(
    base: ModelPredictor, images: list[str]
) -> None:
    predictors = [
        base,
        *(MaskedPredictor(base, ["clip"], MASKS[mask](base, images)) for mask in MASKS),
        MaskedPredictor(base, ["dinov2"], MASKS["zero"](base, images)),
        MaskedPredictor(base, ["clip", "dinov2"], MASKS["zero"](base, images)),
        MaskedPredictor(base, ["clip"], MASKS["mean"](base, images[1:])),
    ]
    prints = [predictor.fingerprint for predictor in predictors]
    assert len(set(prints)) == len(prints)
    again = MaskedPredictor(base, ["clip"], MASKS["mean"](base, images[1:]))
    assert again.fingerprint == prints[-1]
    assert again.generation["masked"] == ["clip"] and again.box_style == base.box_style


def test_a_masked_model_answers_as_if_it_saw_what_the_mask_shows(
    base: ModelPredictor, images: list[str]
) -> None:
    """With every encoder shown another image, the answers are those to that image."""
    pair = images[:2]
    items = [Item(str(n), path, "Is it?", (), str(n)) for n, path in enumerate(pair)]
    swapped = [Item(str(n), path, "Is it?", (), str(n)) for n, path in enumerate(pair[::-1])]
    masked = MaskedPredictor(base, ["clip", "dinov2"], MASKS["shuffle"](base, pair))
    assert masked.answer(items, with_images=True) == base.answer(swapped, with_images=True)


def test_a_detector_can_only_be_shown_another_image(
    base: ModelPredictor, images: list[str]
) -> None:
    class Detector(torch.nn.Module):
        pass

    detector: Any = Detector()
    suited = [name for name, mask in MASKS.items() if mask(base, images).suits(detector)]
    assert suited == ["shuffle"]
