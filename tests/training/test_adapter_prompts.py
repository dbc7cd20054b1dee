"""Recipes with adapter prompts: stored features, two phases, chat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny_detector
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.serving.chat import Conversation
from manyeyes.training import train
from training_runs import largest_difference, losses, recipe_data, weights, write_recipe

BIASES = ["q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def two_phases(parts: Path, folder: Path, *settings: str) -> Recipe:
    """LLaMA-Adapter V2's two phases over tiny parts: prompts, then norms and biases."""
    data = recipe_data(parts)
    small = {"name": "llama_adapter_v2", "queries": 4, "width": 16, "heads": 4, "depth": 2}
    data["model"].update(tiny_detector.block(parts, detector=False))
    data["model"]["fusion"] = small
    data["model"]["language"] = {**data["model"]["language"], "added_biases": BIASES}
    data["stages"][0]["train"] = {"fusion": True, "bridge": True}
    data["stages"][1]["train"] = {"language.*norm.weight": True, "language.*.bias": True}
    return load_recipe(write_recipe(folder / "recipe.yaml", data), settings)


@pytest.fixture(scope="module")
def runs(parts: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    train(two_phases(parts, folder), folder / "plain", data_dir=data)
    stored = ("stages.0.cache_features=true", "stages.1.cache_features=true")
    train(two_phases(parts, folder, *stored), folder / "stored", data_dir=data)
    return folder


def test_stored_class_and_patch_tokens_train_alike(runs: Path) -> None:
    for stage in ("align", "instruct"):
        plain, stored = losses(runs / "plain" / stage), losses(runs / "stored" / stage)
        assert stored == pytest.approx(plain, abs=1e-5) and len(plain) > 2
    assert largest_difference(runs / "plain" / "model", runs / "stored" / "model") < 1e-5


def test_the_second_phase_moves_norms_and_biases_only(runs: Path) -> None:
    (first,) = (runs / "plain" / "align").glob("checkpoint-4")
    before, after = weights(first), weights(runs / "plain" / "model")
    moved = {n for n, t in after.items() if n not in before or not bool((t == before[n]).all())}
    assert moved and all(n.startswith("language_model.") for n in moved)
    assert all("norm" in n or n.endswith("_proj.bias") for n in moved)
    assert {n for n in after if n.startswith("language_model.") and "norm" not in n} == {
        f"language_model.model.layers.{layer}.{part}.{name}.bias"
        for layer in range(2)
        for part, names in (("self_attn", BIASES[:2]), ("mlp", BIASES[2:]))
        for name in names
    }


def test_a_conversation_with_prompts(runs: Path, pictures: list[Any], tmp_path: Path) -> None:
    folder = runs / "plain" / "model"
    model = ManyEyesForConditionalGeneration.from_pretrained(folder)
    model.bridge.gates.data.fill_(2.0)
    talk = Conversation(model, ManyEyesProcessor.from_pretrained(folder), max_new_tokens=4)
    alone = talk.ask("what?").text
    talk.reset()
    for place, picture in enumerate(pictures[:2]):
        picture.save(tmp_path / f"{place}.png")
        talk.show(tmp_path / f"{place}.png")
    assert talk.ask("what?").text != alone
    talk.ask("and now?")
    assert len(talk.turns) == 4
