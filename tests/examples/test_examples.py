"""The scripts of ``examples/`` run as a user runs them, at tiny budgets, on the world's parts."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from manyeyes import ManyEyesForConditionalGeneration
from manyeyes.encoders import ENCODERS
from manyeyes.study.comparison.summary import summarize

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one script in this process with options; return what it printed."""

    def run_script(name: str, *options: object) -> str:
        path = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, options)])
        monkeypatch.setitem(ENCODERS, "vit", ENCODERS["auto"])  # put back what a script enters
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_short_and_says_how_to_run_it(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text))
    assert said is not None and f"python examples/{script.name}" in said
    assert len(text.splitlines()) <= 60


def test_every_script_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [s.name for s in SCRIPTS if f"]({s.name})" not in table] == []


def test_training_on_own_data_leaves_a_model_and_its_scores(
    run: Run, world: Path, tmp_path: Path
) -> None:
    rows, images = world / "llava" / "train.json", world / "images"
    shown = run(
        "train_on_own_data", "--train", rows, "--images", images, "--steps", 1, "--out", tmp_path
    )
    assert "20 rows to train on, 4 held out by image" in shown
    scores = json.loads((tmp_path / "answers" / "results.json").read_text())["benchmarks"]
    assert set(scores) == {"boxes", "question_answer", "conversations"}
    own = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    assert list(own.encoders) == ["clip", "dinov2"]


def test_the_branches_are_compared_on_the_same_questions(run: Run, tmp_path: Path) -> None:
    budget = ("--seeds", 1, "--steps", 2, "--pictures", 40, "--questions", 3)
    shown = run("compare_two_branches", *budget, "--out", tmp_path)
    assert "CLIP and DINOv2 against CLIP on vqa: " in shown
    study = summarize(tmp_path)
    assert [arm.name for arm in study.arms] == ["CLIP", "CLIP and DINOv2"]
    assert study.plan.budget == "steps=2"
    assert (tmp_path / "report.html").is_file()


def test_lora_trains_and_is_merged_into_the_model(run: Run, tmp_path: Path) -> None:
    shown = run("lora_in_python", "--steps", 1, "--pictures", 12, "--out", tmp_path)
    assert "trainable params" in shown
    model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert not any("lora" in name for name, _ in model.named_parameters())
    untrained = ManyEyesForConditionalGeneration.from_parts(
        model.config, seed=0, dtype=torch.float32
    )
    before = untrained.state_dict()
    changed = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert any(name.startswith("language_model") for name in changed)
    assert any(name.startswith("fusion") for name in changed)
    assert not any(name.startswith("encoders") for name in changed)


def test_answers_of_others_are_scored_and_compared(run: Run) -> None:
    shown = run("evaluate_other_answers")
    assert "80.0 [" in shown and "50.0 [" in shown and "+30.0 [" in shown


def test_the_added_encoder_is_part_of_the_trained_model(run: Run, tmp_path: Path) -> None:
    run("add_an_encoder", "--steps", 1, "--pictures", 12, "--out", tmp_path)
    model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    assert type(model.encoders["vit"]).__name__ == "VitEncoder"
    assert [encoder["family"] for encoder in model.config.encoders] == ["clip", "vit"]


def test_the_notebook_of_the_demo_runs_from_top_to_bottom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells in order, with other values in the one that is tagged ``parameters``."""
    notebook = json.loads((EXAMPLES / "demo.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), "demo.ipynb", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= {"OUT": tmp_path, "PICTURES": 40, "STEPS": 2, "QUESTIONS": 3}
    shown = capsys.readouterr().out
    assert "COMM against CLIP on vqa: " in shown and "clip blank" in shown
    assert (tmp_path / "study" / "report.html").is_file()
    assert (tmp_path / "explanation.html").is_file()
