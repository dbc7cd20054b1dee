"""``manyeyes evaluate``: scores beside their baselines, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli_runs import Trained, invoke, the_object


def test_scores_stand_beside_their_baselines(trained: Trained, tmp_path: Path) -> None:
    words = ["evaluate", trained.model, "--data", trained.data, "--out", tmp_path / "e"]
    words += ["--benchmark", "vqa", "-b", "pope", "--split", "train", "--limit", "6"]
    report = the_object(invoke(*words, "--json"))
    assert set(report["benchmarks"]) == {"vqa", "pope"}
    for entry in report["benchmarks"].values():
        assert entry["n"] == 6
        for arm in ("model", "majority", "text_only"):
            assert 0.0 <= entry[arm]["metrics"][entry["metric"]] <= 100.0
    shown = invoke(*words)
    assert "majority" in shown.stdout
    assert "text only" in shown.stdout
    assert (tmp_path / "e" / "predictions-vqa.jsonl").is_file()


def test_results_go_beside_the_model_by_default(trained: Trained) -> None:
    words = ("-b", "vqa", "--split", "train", "--limit", "1", "--no-text-only")
    result = invoke("evaluate", trained.model, "--data", trained.data, *words)
    assert result.exit_code == 0, result.stderr
    assert (trained.out / "evaluation-train" / "results.json").is_file()


def test_variants_are_used_and_recorded(trained: Trained, tmp_path: Path) -> None:
    words = ["evaluate", trained.model, "--data", trained.data, "--out", tmp_path / "e"]
    words += ["-b", "vqa", "-b", "pope", "--split", "train", "--limit", "2", "--no-text-only"]
    words += ["--variant", "vqa=m4c", "--variant", "pope=strict", "--json"]
    entries = the_object(invoke(*words))["benchmarks"]
    assert [entries[name]["model"]["variant"] for name in ("vqa", "pope")] == ["m4c", "strict"]


def test_one_answer_per_question_is_told(trained: Trained, tmp_path: Path) -> None:
    data = tmp_path / "world"
    shutil.copytree(trained.data, data)
    file = data / "annotations" / "vqa_train_annotations.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["answers"] = annotation["answers"][:1]
    file.write_text(json.dumps(content))
    words = ["evaluate", trained.model, "--data", data, "--out", tmp_path / "e", "-b", "vqa"]
    words += ["--split", "train", "--limit", "2", "--no-text-only"]
    entry = the_object(invoke(*words, "--json"))["benchmarks"]["vqa"]
    assert entry["variant"] == entry["model"]["variant"] == "official, exact match"
    shown = invoke(*words).stdout
    assert "note: vqa: every question has one reference answer: scored by exact match" in shown


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["-b", "vqq"], "did you mean 'vqa'?", 2),
        ([], "give at least one --benchmark", 2),
        (["-b", "vqa", "--dtype", "bfloat61"], "did you mean 'bfloat16'?", 2),
        (["-b", "vqa", "--device", "abacus"], "cannot use device 'abacus'", 2),
        (["-b", "vqa", "--split", "tset"], "for split 'tset'", 1),
        (["-b", "vqa", "--variant", "vqa=m4"], "did you mean 'm4c'?", 2),
        (["-b", "vqa", "--variant", "m4c"], "--variant takes BENCHMARK=NAME, got 'm4c'", 2),
        (["-b", "vqa", "--variant", "pope=strict"], "'pope', which is not evaluated", 2),
        (["-b", "vqa", *("--variant", "vqa=m4c") * 2], "given twice for 'vqa'", 2),
    ],
)
def test_what_is_refused(trained: Trained, words: list[str], message: str, code: int) -> None:
    result = invoke("evaluate", trained.model, "--data", trained.data, *words)
    assert result.exit_code == code
    assert message in result.stderr


def test_models_that_are_not_there(trained: Trained, parts: Path) -> None:
    for model, message in (
        (trained.out, f"did you mean {trained.out / 'align'}"),
        (parts / "clip", "not 'manyeyes'"),
        (trained.out / "none" / "model", "no such model folder"),
        ("owner/no-such-model", "hf download owner/no-such-model"),
    ):
        result = invoke("evaluate", model, "--data", trained.data, "-b", "vqa")
        assert result.exit_code == 1
        assert message.removesuffix("align") in result.stderr
