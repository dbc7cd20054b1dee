"""A-OKVQA: both tasks by the official rules, in both official result layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.errors import DataError
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.tables.table import format_table
from oracles import Oracle
from vqa_files import write_json

CHOICES = ["skateboarder", "train", "delivery", "cab"]
ROW: dict[str, Any] = {
    "split": "val",
    "image_id": 299207,
    "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man by the bags awaiting?",
    "choices": CHOICES,
    "correct_choice_idx": 3,
    "direct_answers": ["ride", "ride", "bus", "taxi", "taxi", "taxi", "taxi", "cab", "ride", "x"],
    "difficult_direct_answer": False,
    "rationales": ["a", "b", "c"],
}
ROWS = [
    ROW,
    {**ROW, "question_id": "b", "image_id": 7, "correct_choice_idx": 1},
    {**ROW, "question_id": "hard", "image_id": 8, "difficult_direct_answer": True},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three questions, the last with direct answers too difficult to count."""
    return write_json(tmp_path / "aokvqa_v1p0_val.json", ROWS)


def scored(file: Path, answers: Any, variant: str | None = None, missing: bool = False) -> Any:
    path = write_json(file.parent / "answers.json", answers)
    plan = Scoring("aokvqa", [file], variant=variant, allow_missing=missing)
    return score_file(plan, path).result


def both(choice: str, direct: str) -> dict[str, str]:
    return {"multiple_choice": choice, "direct_answer": direct}


def test_the_leaderboards_layout_gives_both_metrics(file: Path) -> None:
    answers = {
        ROW["question_id"]: both("cab", "bus"),
        "b": both("cab", "taxi"),
        "hard": both("cab", "nothing"),
    }
    result = scored(file, answers)
    metrics = result.to_json()["metrics"]
    assert metrics["multiple_choice"] == pytest.approx(200 / 3)
    assert metrics["direct_answer"] == pytest.approx(100 * (1 / 3 + 1) / 2)
    assert [score.n for score in result.scores] == [3, 2]
    assert result.per_item == {ROW["question_id"]: 1.0, "b": 0.0, "hard": 1.0}
    assert any("1 questions with difficult" in note for note in result.notes)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [(["cab"], 1.0), (["bus"], 0.0), (["cab", "bus"], 0.5), (["cab", "cab"], 1.0)],
)
def test_one_or_two_direct_answers_can_give_a_full_score(
    answers: list[str], expected: float, tmp_path: Path
) -> None:
    row = {**ROW, "direct_answers": answers}
    file = write_json(tmp_path / "aokvqa_v1p0_val.json", [row, {**ROW, "question_id": "b"}])
    result = scored(file, {ROW["question_id"]: "cab", "b": "taxi"}, "direct_answer")
    assert result.per_item == {ROW["question_id"]: expected, "b": 1.0}
    assert result.variant == "direct_answer, share of few answers"
    (note,) = result.notes
    assert note.startswith("1 of 2 questions have fewer than 3 direct answers")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ride", 1.0), ("taxi", 1.0), ("bus", 1 / 3), ("Ride", 0.0), ("ride ", 0.0), ("", 0.0)],
)
def test_direct_answers_leave_none_out_and_normalise_nothing(
    text: str, expected: float, file: Path
) -> None:
    answers = dict.fromkeys([row["question_id"] for row in ROWS], text)
    result = scored(file, answers, "direct_answer")
    assert result.headline.metric == "direct_answer"
    assert result.per_item == pytest.approx({ROW["question_id"]: expected, "b": expected})
    assert result.n == result.headline.n == 2


def test_the_scripts_layout_is_scored_for_the_task_that_is_named(file: Path) -> None:
    answers = {ROW["question_id"]: "cab", "b": "train", "hard": "Cab"}
    result = scored(file, answers, "multiple_choice")
    assert result.to_json()["metrics"] == {"multiple_choice": pytest.approx(200 / 3)}
    assert result.parse_failures == 1


def test_a_text_is_both_answers_under_the_official_variant(file: Path) -> None:
    result = scored(file, dict.fromkeys([row["question_id"] for row in ROWS], "cab"))
    assert result.to_json()["metrics"] == {
        "multiple_choice": pytest.approx(200 / 3),
        "direct_answer": pytest.approx(100 / 3),
    }


def test_a_task_that_the_whole_file_leaves_out_is_not_scored(file: Path) -> None:
    answers = {row["question_id"]: {"direct_answer": "taxi"} for row in ROWS}
    result = scored(file, answers)
    assert result.to_json()["metrics"] == {"direct_answer": 100.0}
    assert "no multiple_choice predictions: not scored" in result.notes


def test_a_missing_prediction_is_worth_nothing_if_allowed(file: Path) -> None:
    answers = {ROW["question_id"]: both("cab", "taxi")}
    with pytest.raises(DataError, match="no prediction for 2 ids: 'b', 'hard'"):
        scored(file, answers)
    result = scored(file, answers, missing=True)
    assert result.to_json()["metrics"] == {
        "multiple_choice": pytest.approx(100 / 3),
        "direct_answer": 50.0,
    }


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"b": {"choice": "cab"}}, r"answers\.json: b\.multiple_choice: is missing, and so is"),
        ({"b": {"direct_answer": 3}}, r"b\.direct_answer: expected a text, got 3"),
        ({"b": 1}, r"b: expected a text or an object, got 1"),
        ([{"question_id": "b"}], r"multiple_choice: is missing"),
    ],
)
def test_broken_predictions_are_named(answers: Any, message: str, file: Path) -> None:
    with pytest.raises(DataError, match=message):
        scored(file, answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_choice_idx": 4}, r"entry 1: correct_choice_idx: expected a place in 'choices'"),
        ({"correct_choice_idx": True}, "expected a place in 'choices', got True"),
        ({"direct_answers": None}, "direct_answers: expected a list of texts"),
        ({"choices": []}, "choices: expected a list of texts"),
        ({"image_id": "x"}, "image_id: the name pattern .* does not fit"),
    ],
)
def test_broken_rows_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [{**ROW, **change}])
    with pytest.raises(DataError, match=message):
        BENCHMARKS["aokvqa"].read_files([path])


def test_the_test_split_without_answers_is_refused(tmp_path: Path) -> None:
    row = {k: v for k, v in ROW.items() if k not in ("correct_choice_idx", "direct_answers")}
    path = write_json(tmp_path / "aokvqa_v1p0_test.json", [row])
    with pytest.raises(DataError, match="correct_choice_idx: is missing"):
        BENCHMARKS["aokvqa"].read_files([path])


def test_items_choices_images_and_baseline(file: Path) -> None:
    folder = file.parent / "val2017"
    folder.mkdir()
    for row in ROWS:
        Image.new("RGB", (4, 4)).save(folder / f"{row['image_id']:012d}.jpg")
    benchmark = BENCHMARKS["aokvqa"]
    items = benchmark.items(file.parent, "val", prompt="{question} ({choices})")
    assert items[0].image.endswith("val2017/000000299207.jpg")
    assert items[0].prompt.endswith("awaiting? (skateboarder, train, delivery, cab)")
    assert items[0].candidates == tuple(CHOICES)
    constant = benchmark.baseline(items, file.parent, "val")
    assert constant.answers["b"] == both("cab", "taxi")
    assert benchmark.score(items, constant.answers).headline.value == pytest.approx(200 / 3)


def test_a_run_reports_the_variants_own_metric(file: Path, tmp_path: Path) -> None:
    for row in ROWS:
        path = file.parent / "val2017" / f"{row['image_id']:012d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    variants = {"aokvqa": "direct_answer"}
    out = tmp_path / "out"
    results = evaluate(Oracle(), ["aokvqa"], file.parent, "val", out, variants=variants)
    entry = results["benchmarks"]["aokvqa"]
    assert (entry["metric"], entry["n"]) == ("direct_answer", 2)
    assert entry["model"]["metrics"] == {"direct_answer": 100.0}
    assert format_table(results).row_count == 1
    rows = [
        json.loads(line) for line in (out / "predictions-aokvqa.jsonl").read_text().splitlines()
    ]
    assert [row["score"] for row in rows] == [1.0, 1.0, None]
    again = score_file(
        Scoring("aokvqa", [file], variant="direct_answer"), out / "predictions-aokvqa.jsonl"
    )
    assert again.result.to_json() == entry["model"]
