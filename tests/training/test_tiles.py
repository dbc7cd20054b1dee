"""Training on pictures in tiles: whole runs, stored features, packing, and what a stage costs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.files import read_samples
from manyeyes.data.mixture import Mixture
from manyeyes.recipes import Recipe, model_config
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.training import train
from manyeyes.training.precomputed.encoder_store import StorePlace
from manyeyes.training.precomputed.features import cached_dataset
from training_runs import losses, recipe_data

MakeRecipe = Callable[..., Recipe]
SIZES = ((40, 16), (16, 16), (30, 30), (20, 12))
"""Grids of 1 x 3, 1 x 1, 2 x 2 and 1 x 2 tiles of 16 pixels."""


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four conversations about pictures of four shapes."""
    folder = tiny.save_data(tmp_path_factory.mktemp("shaped"), samples=len(SIZES))
    for number, size in enumerate(SIZES):
        file = folder / f"{number}.png"
        Image.open(file).resize(size).save(file)
    text = (folder / "train.json").read_text().replace("<boxes>", "there")
    (folder / "train.json").write_text(text.replace('"boxes":', '"boxes_before":'))
    return folder


def tiled(parts: Path) -> dict[str, Any]:
    """CLIP sees tiles, DINOv2 the whole."""
    block = tiny.model_block(parts)
    block["encoders"][1]["sees"] = "whole"
    return {**block, "tiling": {"most": 4}}


@pytest.mark.long
def test_a_run_with_stored_features_and_packed_texts_learns_the_same(
    make_recipe: MakeRecipe, parts: Path, shaped: Path, tmp_path: Path
) -> None:
    found = []
    for cached, packing in ((False, False), (True, True)):
        stages = recipe_data(parts)["stages"]
        for stage in stages:
            stage |= {"cache_features": cached, "packing": packing}
        recipe = make_recipe(model=tiled(parts), stages=stages)
        out = tmp_path / f"{cached}"
        train(recipe, out, data_dir=shaped)
        found.append(losses(out / "align") + losses(out / "instruct"))
        assert any((out / "features").rglob("*.bin")) == cached
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "True" / "model")
    processor = ManyEyesProcessor.from_pretrained(tmp_path / "True" / "model")
    assert model.tiles == processor.tiles


@torch.no_grad()
def test_what_sees_the_whole_is_stored_and_what_sees_tiles_is_not(
    parts: Path, shaped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = model_config(tiled(parts))
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config, dtype=torch.float32)
    model.encoders.requires_grad_(False)
    mixture = Mixture([read_samples(shaped / "train.json")[0]], None, 0, mode="concatenate")
    place = StorePlace(tmp_path, 1.0, shared=True)
    with caplog.at_level(logging.WARNING):
        stored = cached_dataset(
            mixture, model, processor, place, dtype=torch.float32, device=torch.device("cpu")
        )
    assert "'clip': it sees tiles, of which pictures have different numbers" in caplog.text
    assert stored is not None
    rows = [stored[place] for place in range(len(SIZES))]
    assert rows[0].keys() >= {"features_dinov2", "pixel_values_clip", "tile_grids", "tile_views"}
    assert "pixel_values_dinov2" not in rows[0]
    batch = processor.collate(rows)
    pictures = [
        Image.open(shaped / mixture.sources[0][index].images[0]).convert("RGB")
        for index in range(len(SIZES))
    ]
    order = [mixture.locate(0, place)[1] for place in range(len(SIZES))]
    plain = processor.pixels([pictures[index] for index in order])
    visual = {k: v for k, v in batch.items() if k.startswith(("pixel", "feat", "tile_"))}
    model.eval()
    found, expected = model.encode_images(**visual), model.encode_images(**plain)
    torch.testing.assert_close(found.tokens, expected.tokens)
    assert torch.equal(batch["tile_grids"], plain["tile_grids"])


def test_check_counts_the_most_that_a_picture_can_have(
    make_recipe: MakeRecipe, parts: Path
) -> None:
    blocks = (tiny.model_block(parts), tiled(parts))
    plain, more = (inspect_recipe(make_recipe(model=block)) for block in blocks)
    # four tiles of 16 one below the other, the thumbnail, and 16 rows that end
    assert (plain.visual_tokens, more.visual_tokens) == (16, 5 * 16 + 16)
    assert (more.tiles, more.tiled, plain.tiles) == (5, ("clip",), 0)
    one, other = plain.stages[0], more.stages[0]
    assert other.tokens_per_sample - one.tokens_per_sample == 80
    assert other.operations_per_step > one.operations_per_step
    memory = [stage.memory["float32"].activations for stage in (one, other)]
    assert memory[1] > memory[0]
    assert more.parts["bridge"].total - plain.parts["bridge"].total == 32  # the separator
