"""``manyeyes train``: a whole run, resuming it, its own data, broken rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runs import Trained, invoke, the_object


def test_a_run_leaves_a_model_and_its_figures(trained: Trained) -> None:
    assert trained.report["model"] == str(trained.model)
    assert (trained.model / "config.json").is_file()
    stages = trained.report["results"]["stages"]
    assert [(stage["stage"], stage["steps"]) for stage in stages] == [("align", 2), ("instruct", 2)]
    assert (trained.out / "align" / "checkpoint-2").is_dir()


def test_a_second_run_needs_resume(trained: Trained) -> None:
    words = ("train", trained.recipe, "--data", trained.data, "--out", trained.out)
    refused = invoke(*words)
    assert refused.exit_code == 2
    assert "--resume" in refused.stderr
    again = the_object(invoke(*words, "--resume", "--json"))
    assert again["results"]["weights"] == trained.report["results"]["weights"]


def test_a_world_recipe_makes_its_own_data_and_says_so(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = invoke("train", recipe, "--out", out, "--stage", "align")
    assert result.exit_code == 0, result.stderr
    assert f"made a world of 60 images (seed 2) in {out / 'world'}" in result.stderr
    assert result.stdout.startswith("model: ")


def test_an_unknown_stage_names_the_nearest(trained: Trained, tmp_path: Path) -> None:
    words = ("--data", trained.data, "--out", tmp_path, "--stage", "aligm")
    result = invoke("train", trained.recipe, *words)
    assert result.exit_code == 1
    assert "did you mean 'align'?" in result.stderr


def test_broken_rows_are_refused_unless_skipped(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = json.loads((trained.data / "llava" / "train.json").read_text())
    rows[1] = {"id": "broken"}
    Path("rows.json").write_text(json.dumps(rows))
    place = [{"path": "rows.json", "image_root": str(trained.data / "images")}]
    words = ["train", trained.recipe, "--data", ".", "--stage", "align"]
    words += ["--set", f"stages.align.data={json.dumps(place)}", "--json"]
    refused = invoke(*words, "--out", "refused")
    assert refused.exit_code == 1
    assert the_object(refused)["error"]["entry"] == 2
    skipped = the_object(invoke(*words, "--out", "skipped", "--skip-bad-rows"))
    assert skipped["results"]["stages"][0]["data"][0]["skipped"] == 1


def test_benchmarks_are_scored_while_it_trains(trained: Trained, tmp_path: Path) -> None:
    words = ["train", trained.recipe, "--data", trained.data, "--stage", "align", "--json"]
    spec = {"every": 2, "benchmarks": ["vqa"], "metric": "vqa", "limit": 2, "split": "train"}
    chosen = ["--set", f"stages.align.eval={json.dumps(spec)}"]
    found = the_object(invoke(*words, *chosen, "--out", tmp_path / "out"))
    assert found["results"]["stages"][0]["best"]["step"] == 2
    assert 0.0 <= found["results"]["stages"][0]["best"]["value"] <= 100.0
    assert list((tmp_path / "out" / "align" / "eval" / "step-2").glob("predictions-vqa.jsonl"))
    wrong = {**spec, "benchmarks": ["vqq"], "metric": "vqq"}
    refused = invoke(*words, "--set", f"stages.align.eval={json.dumps(wrong)}")
    assert refused.exit_code == 2 and "vqa" in the_object(refused)["error"]["message"]
