"""What was written before modules moved into rooms still loads: a recipe, a model, two studies.

``before_the_rooms/recipe.yaml`` was trained for two steps on a world of 60 images (``model``), and
compared with a wider fusion on three questions of two benchmarks (``study``); ``demo`` is the
record of a demo with drawn pictures. Names of parts, fusions and fields must mean what they meant.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from cli_runs import invoke, the_object
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.checkpoints.hub import module_fingerprint
from manyeyes.errors import CheckpointError
from manyeyes.fusion import FUSIONS
from manyeyes.model.loading import load_model
from manyeyes.recipes import load_recipe, stage_model
from manyeyes.records import Turn
from manyeyes.study.comparison.former import read_former
from manyeyes.study.trials.trial import load_trial
from manyeyes.world.catalog import part_path

BEFORE = Path(__file__).with_name("before_the_rooms")
Loaded = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The model; its frozen language model was trained anew since, so it names the present one."""
    folder = tmp_path_factory.mktemp("before") / "model"
    shutil.copytree(BEFORE / "model", folder)
    stored = json.loads((folder / "config.json").read_text())
    today = LlamaForCausalLM.from_pretrained(part_path("language"), dtype="auto")
    stored["references"]["language_model"]["sha256"] = module_fingerprint(today)
    (folder / "config.json").write_text(json.dumps(stored))
    return load_model(str(folder), device="cpu")


def test_other_frozen_parts_than_those_it_was_trained_with_are_refused() -> None:
    with pytest.raises(CheckpointError, match="is not the checkpoint this model was trained with"):
        load_model(str(BEFORE / "model"), device="cpu")


def test_the_recipe_means_what_it_meant() -> None:
    recipe = load_recipe(BEFORE / "recipe.yaml")
    model = stage_model(recipe, recipe.stages[-1])
    stored = json.loads((BEFORE / "model" / "config.json").read_text())
    assert model["fusion"]["name"] in FUSIONS
    assert model["fusion"] == stored["fusion"]
    assert model["bridge"].items() <= stored["bridge"].items()
    for said, kept in zip(model["encoders"], stored["encoders"], strict=True):
        assert said.items() <= kept.items()
    assert recipe.stages[0].training["max_steps"] == 2


def test_the_checkpoint_holds_what_was_trained_and_finds_its_frozen_parts(loaded: Loaded) -> None:
    model, _ = loaded
    state = model.state_dict()
    trained = load_file(BEFORE / "model" / "model.safetensors")
    assert {name.split(".")[0] for name in trained} == {"fusion", "bridge"}
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.items())
    assert {name.split(".")[0] for name in state} > {"encoders", "language_model"}
    frozen = {"encoders.clip.backbone", "encoders.detector.backbone", "language_model"}
    assert set(model.config.references) == frozen


def test_the_checkpoint_answers(loaded: Loaded) -> None:
    model, processor = loaded
    picture = Image.open(BEFORE / "demo" / "world" / "images" / "test" / "000000.png")
    prompt = processor.prompt([Turn("user", "<image>\nDescribe the image.")])
    inputs = processor.answer_inputs([prompt], [picture])
    words = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert processor.decode(words[0], skip_special_tokens=True).strip()


def test_a_study_is_reported_from_its_records(tmp_path: Path) -> None:
    shutil.copytree(BEFORE / "study", tmp_path / "study")
    found = the_object(invoke("report", tmp_path / "study", "--json"))
    assert set(found["arms"]) == {"tiny", "wider"}
    trial = load_trial(BEFORE / "study" / "records" / "tiny" / "seed-0.json")
    assert trial is not None and trial.steps == 2
    assert set(trial.answers) == {"pope", "rec"}
    page = (tmp_path / "study" / "report.html").read_text()
    assert "None of the 2 comparisons is separable" in page


def test_a_demo_is_reported_from_its_record(tmp_path: Path) -> None:
    shutil.copytree(BEFORE / "demo", tmp_path / "demo")
    plan, items, trials = read_former(tmp_path / "demo")
    assert len(items) == 2 * len(plan.benchmarks)
    assert [trial.arm for trial in trials] == list(plan.arms)
    assert invoke("report", tmp_path / "demo").exit_code == 0
    assert plan.presentation is not None
    assert plan.presentation.title in (tmp_path / "demo" / "report.html").read_text()
