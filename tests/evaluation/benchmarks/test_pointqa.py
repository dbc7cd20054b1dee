"""PointQA in Shikra's lines: words, boxes and points, the published parse and the plain one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.inference.questions import Item

POINTQA = BENCHMARKS["pointqa"]
LOCAL = {
    "file_path": "a.jpg",
    "question": "What colour is it?",
    "answer": "red",
    "bbox": [10, 20, 60, 70],
    "point": [30, 40],
}
TWICE = {
    "file_path": "a.jpg",
    "obj_question": "How many cats?",
    "super_question": "How many animals?",
    "general_question": "How many of these?",
    "answer": "2",
    "bbox": [10, 20, 60, 70],
    "point": [30, 40],
}
V7W = {
    "file_path": "a.jpg",
    "question": "Which is red?",
    "candidates": [[0, 0, 50, 50], [50, 0, 100, 50], [0, 50, 50, 100], [10, 20, 60, 70]],
    "answer": [50, 0, 100, 50],
    "point": [75, 25],
}
FILES = {
    "pointQA_local_test.jsonl": [LOCAL, {**LOCAL, "answer": "light blue"}],
    "pointQA_twice_test.jsonl": [TWICE],
    "v7w_pointing_test.jsonl": [V7W],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in FILES.items():
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))
    Image.new("RGB", (100, 100)).save(tmp_path / "a.jpg")
    return tmp_path


def _items(folder: Path, **changes: Any) -> list[Item]:
    return POINTQA.items(folder, "test", **changes)


RIGHT = {
    "pointQA_local_test:1": "The answer is red .",
    "pointQA_local_test:2": "The answer is light blue.",
    "pointQA_twice_test:1": "The answer is 2 .",
    "v7w_pointing_test:1": "The answer is [0.500,0.000,1.000,0.500] .",
}


def test_questions_are_asked_by_box_or_by_point(folder: Path) -> None:
    items = _items(folder)
    assert [item.id for item in items] == list(RIGHT)
    assert items[0].prompt == "What colour is it? <boxes>"
    assert (items[0].boxes, items[0].points) == ((((10, 20, 60, 70),),), ())
    assert items[2].prompt == "How many of these? <boxes>"
    assert items[3].prompt.startswith("Which is red? Candidates: <boxes> <boxes> <boxes> <boxes>")
    by_point = _items(folder, prompt="{question} <points>")
    assert by_point[0].prompt == "What colour is it? <points>"
    assert (by_point[0].boxes, by_point[0].points) == ((), (((30, 40),),))
    assert [item.id for item in by_point] == list(RIGHT)


def test_right_answers_are_right_in_every_set(folder: Path) -> None:
    for variant in POINTQA.variants:
        result = POINTQA.score(_items(folder), dict(RIGHT), variant=variant)
        assert result.headline.by == {"set": {"local": 100.0, "twice": 100.0, "v7w": 100.0}}
        assert result.parse_failures == 0


def test_boxes_and_points_are_compared_whole(folder: Path) -> None:
    items = _items(folder)[3:]
    for said, right in {
        "The answer is [0.500,0.000,1.000,0.500].": 100.0,
        "The answer is [0.500, 0.000, 1.000, 0.500] .": 100.0,
        "The answer is [0.500,0.000,1.000,0.499] .": 0.0,
        "The answer is [0.750,0.250] .": 100.0,
        "The answer is [0.75,0.25] .": 0.0,
    }.items():
        assert POINTQA.score(items, {items[0].id: said}).headline.value == right
    integers = {items[0].id: "The answer is [500,0,999,500] ."}
    assert POINTQA.score(items, integers, box_style="int1000").headline.value == 100.0


@pytest.mark.parametrize(
    ("said", "official", "plain", "unread"),
    [
        ("The answer is red .", 100, 100, 0),
        ("It is red. The answer is red.", 100, 100, 0),
        ("The answer is Red .", 0, 0, 0),
        ("red", 0, 100, 1),
        ("red.", 0, 100, 1),
        ("The answer is red", 0, 0, 1),
        ("The answer is red. The answer is red.", 0, 0, 1),
        ("", 0, 0, 1),
    ],
)
def test_the_sentence_is_needed_officially(
    folder: Path, said: str, official: float, plain: float, unread: int
) -> None:
    items = _items(folder)[:1]
    result = POINTQA.score(items, {items[0].id: said})
    assert (result.headline.value, result.parse_failures) == (official, unread)
    assert POINTQA.score(items, {items[0].id: said}, variant="plain").headline.value == plain


def test_answers_with_a_full_stop_are_cut_on_both_sides(folder: Path) -> None:
    """Shikra takes "3" out of its own target "The answer is 3.5 ."."""
    row = {**LOCAL, "answer": "3.5"}
    (folder / "pointQA_local_test.jsonl").write_text(json.dumps(row))
    items = POINTQA.read_files([folder / "pointQA_local_test.jsonl"])
    assert POINTQA.score(items, {items[0].id: "The answer is 3.9 ."}).headline.value == 100.0


def test_baseline_is_the_most_frequent_answer_of_the_set(folder: Path) -> None:
    rows = [{**LOCAL, "answer": answer} for answer in ("blue", "red", "red")]
    (folder / "pointQA_local_train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = _items(folder)
    constant = POINTQA.baseline(items, folder, "test")
    assert constant.source == "train split"
    assert constant.answers["pointQA_local_test:2"] == "The answer is red ."
    assert constant.answers["v7w_pointing_test:1"] == "The answer is [0.000,0.000,0.500,0.500] ."
    assert POINTQA.score(items, constant.answers).parse_failures == 0


def test_broken_lines_and_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "pointQA_local_test.jsonl"
    path.write_text(json.dumps(LOCAL) + "\n" + json.dumps({**LOCAL, "bbox": [1, 2]}))
    with pytest.raises(DataError, match=r"pointQA_local_test\.jsonl:2: bbox"):
        POINTQA.read_files([path])
    with pytest.raises(DataError, match=r"holds no PointQA questions for split 'val'"):
        POINTQA.items(tmp_path, "val")
