"""``manyeyes score``: official files in, one result out, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_runs import invoke, the_object
from manyeyes.evaluation.benchmarks import BENCHMARKS

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
TRUTH = {1: "red", 2: "2", 3: "yes"}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three VQAv2 questions on two images, and the right answers to them; no image anywhere."""
    questions = [
        {"question_id": number, "image_id": 40 + number // 2, "question": "What?"}
        for number in TRUTH
    ]
    annotations = [
        {
            "question_id": number,
            "image_id": 40 + number // 2,
            "question_type": "what",
            "answer_type": "other",
            "multiple_choice_answer": answer,
            "answers": [{"answer": answer, "answer_id": k} for k in range(1, 11)],
        }
        for number, answer in TRUTH.items()
    ]
    write(tmp_path / QUESTIONS, {"data_subtype": "val2014", "questions": questions})
    write(tmp_path / ANNOTATIONS, {"annotations": annotations})
    answers(tmp_path / "answers.json", TRUTH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(path: Path, texts: dict[int, str]) -> Path:
    return write(path, [{"question_id": key, "answer": text} for key, text in texts.items()])


def words(*more: str, predictions: str = "answers.json", name: str = "vqa") -> list[str]:
    files = ["--annotations", QUESTIONS, ANNOTATIONS]
    return ["score", name, "--predictions", predictions, *files, *more]


def test_one_object_with_the_documented_keys(folder: Path) -> None:
    found = the_object(invoke(*words("--json")))
    assert found["metrics"] == {"accuracy": 100.0}
    # all right on two images: the exact bound is 0.025 to the power of a half
    assert found["ci95"] == {"accuracy": [pytest.approx(100 * 0.025**0.5), 100.0]}
    assert (found["benchmark"], found["variant"], found["n"]) == ("vqa", "official", 3)
    assert found["by"] == {"question_type": {"what": 100.0}, "answer_type": {"other": 100.0}}
    assert (found["parse_failures"], found["notes"]) == (0, [])
    assert set(found["files"]) == {"answers.json", QUESTIONS, ANNOTATIONS}
    assert all(len(digest) == 64 for digest in found["files"].values())


def test_files_may_all_follow_their_own_option(folder: Path) -> None:
    files = ["--annotations", QUESTIONS, "--annotations", ANNOTATIONS]
    result = invoke("score", *files, "--predictions", "answers.json", "vqa", "--json")
    assert the_object(result)["metrics"] == {"accuracy": 100.0}


def test_the_table_for_people(folder: Path) -> None:
    answers(folder / "answers.json", {1: "red", 2: "3"})
    result = invoke(*words("--allow-missing", "--details"))
    assert result.exit_code == 0, result.stderr
    assert "vqa (official)" in result.stdout
    assert "33.3 [" in result.stdout
    assert "accuracy by question_type" in result.stdout
    assert "note: 1 missing predictions count as wrong" in result.stdout


def test_variants_change_the_score(folder: Path) -> None:
    answers(folder / "answers.json", {1: "Red", 2: "2", 3: "yes"})
    assert the_object(invoke(*words("--json")))["metrics"]["accuracy"] == pytest.approx(200 / 3)
    found = the_object(invoke(*words("--json", "--variant", "m4c")))
    assert (found["metrics"]["accuracy"], found["variant"]) == (100.0, "m4c")


def test_item_scores_are_written(folder: Path) -> None:
    assert invoke(*words("--items", "items.jsonl")).exit_code == 0
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    assert [(row["id"], row["prediction"], row["score"]) for row in rows] == [
        ("1", "red", 1.0),
        ("2", "2", 1.0),
        ("3", "yes", 1.0),
    ]
    again = the_object(invoke(*words("--json", predictions="answers.json")))
    assert again["metrics"]["accuracy"] == 100.0


def test_the_list_holds_every_benchmark() -> None:
    shown = invoke("score", "--list")
    found = the_object(invoke("score", "--list", "--json"))["benchmarks"]
    assert set(found) == set(BENCHMARKS)
    for name, entry in found.items():
        assert f"{name}: {entry['description']}" in shown.stdout
        assert set(entry) == {
            *("description", "files", "result_format", "metric", "variants", "prompt")
        }


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        (["score"], "give a BENCHMARK: ", 2),
        (["score", "vqa"], "give --predictions FILE", 2),
        (["score", "vqa", "--predictions", "answers.json"], "give --annotations FILE...", 2),
        (words(name="vqb"), "unknown benchmark 'vqb' (did you mean 'vqa'?)", 2),
        (words("--variant", "m4"), "did you mean 'm4c'?", 2),
        (words("--box-style", "shikara"), "did you mean 'shikra'?", 2),
        (words("third.json"), "expected 2 annotation files (questions, annotations), got 3", 2),
        (words(predictions=ANNOTATIONS), "holds questions or annotations, not predictions", 1),
        (words(predictions="none.json"), "none.json: no such file", 1),
        (words(name="pope"), "expected a list or lines for format 'pope'", 1),
        (words("--items", "answers.json/items.jsonl"), "items.jsonl: cannot be written", 1),
    ],
)
def test_what_is_refused(folder: Path, line: list[str], message: str, code: int) -> None:
    result = invoke(*line)
    assert message in result.stderr
    assert result.exit_code == code
    failed = the_object(invoke(*line, "--json"))
    assert message in failed["error"]["message"]


def test_swapped_files_are_named(folder: Path) -> None:
    files = ["--annotations", ANNOTATIONS, QUESTIONS]
    result = invoke("score", "vqa", "--predictions", "answers.json", *files)
    assert result.exit_code == 1
    assert f"{ANNOTATIONS}: holds answers; give the file of questions" in result.stderr


def test_missing_and_unknown_predictions(folder: Path) -> None:
    answers(folder / "answers.json", {1: "red", 2: "2"})
    result = invoke(*words())
    assert (result.exit_code, "no prediction for 1 ids: '3'" in result.stderr) == (1, True)
    answers(folder / "answers.json", {**TRUTH, 9: "no"})
    result = invoke(*words())
    assert (result.exit_code, "predictions for unknown ids: '9'" in result.stderr) == (1, True)


def test_boxes_need_the_images_only_for_their_sizes(world: Path, tmp_path: Path) -> None:
    refs = world / "annotations" / "refs_test.jsonl"
    rows = [json.loads(line) for line in refs.read_text().splitlines()]
    texts = [{"question_id": row["id"], "answer": "[0.000,0.000,1.000,1.000]"} for row in rows]
    line = ["score", "rec", "--predictions", write(tmp_path / "a.json", texts)]
    line += ["--annotations", refs, "--json"]
    found = the_object(invoke(*line, "--images", world / "images"))
    assert (found["n"], found["parse_failures"]) == (len(rows), 0)
    without = invoke(*line)
    assert without.exit_code == 1
    assert "needs the size of image 'test/000000.png'" in without.stderr


def test_against_other_answers(folder: Path) -> None:
    answers(folder / "worse.json", {1: "red", 2: "3", 3: "no"})
    found = the_object(invoke(*words("--against", "worse.json", "--json")))
    compared = found["comparison"]["metrics"]["accuracy"]
    assert found["against"]["metrics"] == {"accuracy": pytest.approx(100 / 3)}
    assert compared["difference"] == pytest.approx(200 / 3)
    assert (compared["mcnemar"]["only_a"], compared["mcnemar"]["only_b"]) == (2, 0)
    result = invoke(*words("--against", "worse.json"))
    assert result.exit_code == 0, result.stderr
    assert "+66.7" in result.stdout and "note: only 2 clusters" in result.stdout
    result = invoke(*words("--against", "none.json"))
    assert result.exit_code == 1 and "none.json" in result.stderr
