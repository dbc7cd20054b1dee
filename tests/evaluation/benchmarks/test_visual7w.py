"""Visual7W pointing: ids or boxes as answers, the order of the candidates, broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.conversation.boxes import format_boxes
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item

VISUAL7W = BENCHMARKS["visual7w"]
BOXES = {
    100: [0, 0, 20, 20],
    101: [30, 0, 20, 20],
    102: [0, 30, 20, 20],
    103: [30, 30, 50, 40],
    104: [70, 0, 30, 30],
}


def _question(number: int, answer: int, others: list[int]) -> dict[str, Any]:
    return {
        "qa_id": number,
        "question": "Which thing is red?",
        "answer": answer,
        "multiple_choices": others,
        "type": "which",
    }


def _dataset(questions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "dataset": "visual7w-pointing",
        "images": [
            {"image_id": 7, "filename": "v7w_7.jpg", "split": "val", "qa_pairs": questions},
            {
                "image_id": 8,
                "filename": "v7w_8.jpg",
                "split": "test",
                "qa_pairs": [_question(9, 100, [101, 102, 103])],
            },
        ],
        "boxes": [
            {"box_id": i, "image_id": 7, "name": "x", "x": x, "y": y, "width": w, "height": h}
            for i, (x, y, w, h) in BOXES.items()
        ],
    }


QUESTIONS = [_question(1, 103, [100, 101, 102]), _question(2, 100, [101, 104, 103])]


def _items(folder: Path, questions: Any = QUESTIONS) -> list[Item]:
    path = folder / "dataset_v7w_pointing.json"
    path.write_text(json.dumps(_dataset(questions)))
    (folder / "v7w_7.jpg").exists() or Image.new("RGB", (100, 80)).save(folder / "v7w_7.jpg")
    items = VISUAL7W.read_files([path], split="val")
    return [Item(**{**vars(item), "image": str(folder / item.image)}) for item in items]


def test_items(tmp_path: Path) -> None:
    first, second = _items(tmp_path)
    assert (first.id, first.references, first.cluster) == ("1", ("103",), "7")
    assert first.prompt == (
        "Which thing is red? Candidates: <boxes> <boxes> <boxes> <boxes> Answer with a box."
    )
    assert sorted(first.choices) == ["100", "101", "102", "103"]
    right = first.choices.index("103")
    assert first.boxes[right] == ((30, 30, 80, 70),)
    assert first.target == (30, 30, 80, 70)
    assert second.groups == {"question_type": "which"}


def test_the_place_of_the_answer_says_nothing(tmp_path: Path) -> None:
    questions = [
        _question(n, 100 + n % 4, [100 + (n + k) % 4 for k in (1, 2, 3)]) for n in range(400)
    ]
    items = _items(tmp_path, questions)
    places = [item.choices.index(item.references[0]) for item in items]
    assert all(70 < places.count(place) < 130 for place in range(4))
    assert [item.choices for item in _items(tmp_path, questions)] == [i.choices for i in items]


def test_official_results_name_the_box(tmp_path: Path) -> None:
    items = _items(tmp_path)
    path = tmp_path / "result.json"
    rows = [
        {"qa_id": 1, "question": "?", "candidates": [{"answer": 103}]},
        {"qa_id": 2, "question": "?", "candidates": [{"answer": 101}]},
    ]
    path.write_text(json.dumps(rows))
    result = VISUAL7W.score(items, VISUAL7W.load(path))
    assert (result.headline.value, result.parse_failures) == (50.0, 0)
    assert result.headline.by == {"question_type": {"which": 50.0}}
    assert result.per_item == {"1": 1.0, "2": 0.0}


def test_only_candidates_can_be_chosen_officially(tmp_path: Path) -> None:
    items = _items(tmp_path)
    result = VISUAL7W.score(items, {"1": "104", "2": "[0.0,0.0,0.2,0.25]"})
    assert (result.headline.value, result.parse_failures) == (0.0, 2)


def test_a_box_stands_for_the_candidate_it_overlaps_most(tmp_path: Path) -> None:
    items = _items(tmp_path)
    text = format_boxes([(25, 30, 80, 70)], style="lion", width=100, height=80)
    answers: dict[str, Prediction] = {"1": f"The answer is {text} .", "2": [15, 0, 40, 20]}
    result = VISUAL7W.score(items, answers, variant="nearest", box_style="lion")
    assert result.per_item == {"1": 1.0, "2": 0.0}
    away: dict[str, Prediction] = {"1": "103", "2": [90, 70, 99, 79]}
    result = VISUAL7W.score(items, away, variant="nearest")
    assert (result.per_item, result.parse_failures) == ({"1": 1.0, "2": 0.0}, 0)
    unread: dict[str, Prediction] = {"1": "the big one", "2": [[0, 0, 20, 20], [0, 0, 20, 20]]}
    assert VISUAL7W.score(items, unread, variant="nearest").parse_failures == 2


def test_baseline_counts_on_the_training_split_if_there_is_one(tmp_path: Path) -> None:
    _items(tmp_path)
    items = VISUAL7W.items(tmp_path, "val")
    constant = VISUAL7W.baseline(items, tmp_path, "val")
    assert constant.source == "evaluated split"
    assert constant.answers == {"1": "103", "2": "103"}  # the largest box
    assert VISUAL7W.score(items, constant.answers).headline.value == 50.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 999}, r"qa_pairs\[0\]\.answer: expected the ids of 'boxes', got '999'"),
        ({"multiple_choices": [103, 100, 101]}, r"multiple_choices: expected other boxes"),
        ({"multiple_choices": "none"}, r"multiple_choices: expected a list of box ids"),
        ({"question": ""}, r"question: expected a text"),
        ({"qa_id": None}, r"qa_id: expected an id"),
    ],
)
def test_broken_questions_are_named(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"dataset_v7w_pointing\.json.*{message}"):
        _items(tmp_path, [{**QUESTIONS[0], **change}])


def test_broken_boxes_and_results_are_named(tmp_path: Path) -> None:
    dataset = _dataset(QUESTIONS)
    dataset["boxes"][1]["width"] = -3
    path = tmp_path / "dataset_v7w_pointing.json"
    path.write_text(json.dumps(dataset))
    with pytest.raises(DataError, match=r"boxes\[1\]\.x, y, width, height: .* not negative"):
        VISUAL7W.read_files([path], split="val")
    expected = {"true": "box text", "null": "the id of a box", "[1, NaN, 3, 4]": "box text"}
    for answer, kind in expected.items():
        path.write_text(f'[{{"qa_id": 1, "candidates": [{{"answer": {answer}}}]}}]')
        with pytest.raises(DataError, match=rf"candidates\[0\]\.answer: expected {kind}"):
            VISUAL7W.load(path)
    path.write_text('[{"qa_id": 1, "candidates": [{"answer": 1}, {"answer": 2}]}]')
    with pytest.raises(DataError, match="candidates: expected one, the chosen box"):
        VISUAL7W.load(path)


def test_a_split_must_be_chosen(tmp_path: Path) -> None:
    _items(tmp_path)
    with pytest.raises(UsageError, match="holds the splits test, val; choose one"):
        VISUAL7W.read_files([tmp_path / "dataset_v7w_pointing.json"])
