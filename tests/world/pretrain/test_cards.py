"""Cards and the catalogue: what is written is what is there, and what is there loads offline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, Dinov2Model
from transformers import ViTMAEForPreTraining as MaeModel

from manyeyes.errors import CheckpointError, UsageError
from manyeyes.world import catalog
from manyeyes.world.catalog import PARTS, part_path
from manyeyes.world.pretrain.cards import Card, read_card, render_card, weight_files, write_card
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.run import RECIPES, pretrain
from manyeyes.world.pretrain.vision.mae import MaeObjective
from manyeyes.world.pretrain.vision_parts import VISION, vision_recipe
from manyeyes.world.render import render_batch

MODELS = {"clip": CLIPModel, "dinov2": Dinov2Model, "mae": MaeModel}
NORMALIZATION = {"clip": "clip", "dinov2": "imagenet", "mae": "imagenet"}


def probes(best: float) -> dict[str, dict[str, float]]:
    return {
        "level 1": {"shape": 0.5, "place_px": 3.0},
        "level 2": {"shape": best, "place_px": 2.0},
        "random ViT, level 6": {"shape": 0.6, "place_px": 4.0},
        "raw patch pixels": {"shape": 0.4, "place_px": 5.0},
        "n": {"objects": 10.0},
    }


def card(best: float = 0.9) -> Card:
    figures = {"linear probes": probes(best)}
    files = {"model.safetensors": {"bytes": 12, "sha256": "00"}}
    return Card("clip", "A part.", 1234, {"seed": 0, "steps": 5}, files, figures)


def test_card_survives_writing_and_reading(tmp_path: Path) -> None:
    write_card(card(), tmp_path)
    assert read_card(tmp_path) == card()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == render_card(card())


def test_card_says_what_was_not_learnt() -> None:
    assert "Every figure beats" in render_card(card(best=0.9))
    text = render_card(card(best=0.62))
    assert "- shape: 0.620 at the best level, against 0.600 without training." in text
    assert "- place_px" not in text


def test_missing_card_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no card\.json"):
        read_card(tmp_path)


def test_pretrain_writes_a_part_that_its_card_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = vision_recipe(
        lambda seed: MaeObjective(seed, images_per_step=4),
        lambda folder, seed: {"made up": {"row": {"seed": float(seed)}}},
        1.0,
        "Small.",
    )
    monkeypatch.setitem(RECIPES, "mae", small)
    threads = torch.get_num_threads()
    lines: list[str] = []
    made = pretrain("mae", tmp_path, steps=2, seed=3, threads=threads, progress=lines.append)
    assert made.training["steps"] == 2 and made.training["images"] == 8
    assert made.files == weight_files(tmp_path / "mae")
    model = MaeModel.from_pretrained(tmp_path / "mae", local_files_only=True)
    assert model.dtype == torch.bfloat16
    again = pretrain("mae", tmp_path, steps=2, seed=3, threads=threads, resume=True)
    assert again.files == made.files


@pytest.mark.parametrize("part", ["clpi", "vicuna"])
def test_unknown_part_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of clip"):
        pretrain(part, tmp_path)
    with pytest.raises(UsageError, match="expected one of clip"):
        part_path(part)


def test_every_catalogued_part_can_be_made() -> None:
    assert set(PARTS) <= set(RECIPES)
    assert set(VISION) == {*MODELS, "detector", "tagger"}


def test_absent_part_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "WORLD_PARTS", tmp_path)
    with pytest.raises(CheckpointError, match="manyeyes world pretrain --part clip"):
        part_path("world:clip")


@pytest.mark.parametrize("part", PARTS)
def test_shipped_card_agrees_with_the_weights(part: str) -> None:
    folder = part_path(part)
    shipped = read_card(folder)
    assert shipped.part == part
    assert shipped.files == weight_files(folder) != {}
    assert (folder / "README.md").read_text(encoding="utf-8") == render_card(shipped)


@pytest.mark.parametrize("part", MODELS)
def test_shipped_card_counts_parameters_and_images(part: str) -> None:
    shipped = read_card(part_path(part))
    stored = load_file(part_path(part) / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert shipped.parameters == sum(tensor.numel() for tensor in stored.values())
    per_step = int(shipped.training["images per step"])
    assert shipped.training["images"] == per_step * int(shipped.training["steps"])
    probed = shipped.figures["linear probes"]
    assert {"level 1", "level 6", "random ViT, level 6", "raw patch pixels"} <= set(probed)


@pytest.mark.parametrize("part", MODELS)
def test_shipped_vision_part_loads_offline_with_seven_levels(part: str) -> None:
    model = MODELS[part].from_pretrained(part_path(part), local_files_only=True)
    tower = {"clip": "vision_model", "dinov2": "", "mae": "vit"}[part]
    pixels = torch.zeros(1, 3, 48, 48, dtype=torch.bfloat16)
    out = model.get_submodule(tower)(pixel_values=pixels, output_hidden_states=True)
    assert len(out.hidden_states) == 7
    assert out.hidden_states[-1].shape[-1] == 128


@pytest.mark.parametrize("part", MODELS)
def test_shipped_processor_does_what_training_did(part: str) -> None:
    processor = AutoImageProcessor.from_pretrained(part_path(part), local_files_only=True)
    scenes = scene_batch("val", 0, 2, 0)
    pixels = processor(list(render_batch(scenes)), return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, picture_batch(scenes, NORMALIZATION[part]), atol=1e-5)


def test_shipped_clip_reads_captions() -> None:
    tokenizer = AutoTokenizer.from_pretrained(part_path("clip"), local_files_only=True)
    ids = tokenizer("There are two red circles.")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id
