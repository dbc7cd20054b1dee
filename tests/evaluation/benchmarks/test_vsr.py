"""VSR: official lines of 0 and 1, answers in words, relations and their categories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.errors import DataError
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.benchmarks.vsr import CATEGORIES, parse_truth
from manyeyes.evaluation.contract import BenchmarkResult

ROW: dict[str, Any] = {
    "image": "000000451431.jpg",
    "image_link": "http://images.cocodataset.org/train2017/000000451431.jpg",
    "caption": "The person is ahead of the cow.",
    "label": 0,
    "relation": "ahead of",
    "annotator_id": 11,
    "vote_true_validator_id": "[2, 9]",
    "vote_false_validator_id": "[]",
}
ROWS = [
    ROW,
    {**ROW, "image": "000000000002.jpg", "label": 1, "relation": "touching"},
    {**ROW, "image": "000000000002.jpg", "label": 1, "relation": "among"},
    {**ROW, "image": "000000000003.jpg", "label": 0, "relation": "left of something"},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four statements: false, true, true, false."""
    path = tmp_path / "splits" / "zeroshot" / "test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def scored(file: Path, answers: str) -> BenchmarkResult:
    path = file.parent / "preds.txt"
    path.write_text(answers)
    return score_file(Scoring("vsr", [file]), path).result


def test_official_lines(file: Path) -> None:
    result = scored(file, "0\n1\n0\n0\n")
    assert result.headline.value == 75.0
    assert result.per_item == {"1": 1.0, "2": 1.0, "3": 0.0, "4": 1.0}
    assert result.headline.by["relation"]["among"] == 0.0
    assert result.headline.by["category"] == {
        "adjacency": 100.0,
        "topological": 100.0,
        "unallocated": 0.0,
    }


def test_rows_with_answers_in_words(file: Path) -> None:
    texts = ["False.", "It is true", "maybe", "No, it is not"]
    rows = [json.dumps({"id": n, "answer": text}) for n, text in enumerate(texts, start=1)]
    result = scored(file, "\n".join(rows))
    assert (result.headline.value, result.parse_failures) == (75.0, 1)


def test_too_few_lines_are_missing_predictions(file: Path) -> None:
    with pytest.raises(DataError, match="no prediction for 2 ids: '3', '4'"):
        scored(file, "0\n1\n")
    with pytest.raises(DataError, match="predictions for unknown ids: '5'"):
        scored(file, "0\n1\n1\n0\n1\n")


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        *(("1", 1), ("0", 0), ("Yes", 1), ("NO!", 0), ("TRUE", 1), ("false", 0)),
        *(("no, that is true", 0), ("10", None), ("untrue", None), ("", None), ("not so", None)),
    ],
)
def test_the_first_word_of_truth_counts(text: str, truth: int | None) -> None:
    assert parse_truth(text) == truth


def test_categories_are_seven_and_share_no_relation() -> None:
    relations = [relation for listed in CATEGORIES.values() for relation in listed]
    assert len(CATEGORIES) == 7
    assert len(relations) == len(set(relations)) == 70
    assert "among" in CATEGORIES["unallocated"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "1"}, r"test\.jsonl:1: label: expected 0 or 1, got '1'"),
        ({"label": True}, "label: expected 0 or 1, got True"),
        ({"relation": ""}, "relation: expected a text"),
        ({"image": "../x.jpg"}, "leads out of the image folder"),
    ],
)
def test_broken_rows_are_named(change: dict[str, Any], message: str, file: Path) -> None:
    file.write_text(json.dumps({**ROW, **change}))
    with pytest.raises(DataError, match=message):
        BENCHMARKS["vsr"].read_files([file])


def test_a_file_of_other_text_is_named(file: Path) -> None:
    with pytest.raises(DataError, match=r"preds\.txt:1: is not JSON"):
        scored(file, "yes\nno\n")


def test_splits_hold_the_folder_and_images_lie_in_coco(file: Path) -> None:
    root = file.parents[2]
    (root / "train2017").mkdir()
    for name in {row["image"] for row in ROWS}:
        Image.new("RGB", (4, 4)).save(root / "train2017" / name)
    items = BENCHMARKS["vsr"].items(root, "zeroshot/test")
    assert items[0].image.endswith("train2017/000000451431.jpg")
    assert items[0].prompt.endswith('true or false? "The person is ahead of the cow."')
    constant = BENCHMARKS["vsr"].baseline(items, root, "zeroshot/test")
    assert (set(constant.answers.values()), constant.source) == ({"true"}, "evaluated split")
    train = file.with_name("train.jsonl")
    train.write_text(json.dumps(ROW))
    constant = BENCHMARKS["vsr"].baseline(items, root, "zeroshot/test")
    assert (set(constant.answers.values()), constant.source) == ({"false"}, "zeroshot/train split")


def test_the_official_folders_are_found(file: Path, tmp_path: Path) -> None:
    for row in ROWS:
        Image.new("RGB", (4, 4)).save(tmp_path / row["image"])
    items = BENCHMARKS["vsr"].items(tmp_path, "test")
    assert len(items) == len(ROWS)
    with pytest.raises(DataError, match=r"splits/zeroshot/val\.jsonl"):
        BENCHMARKS["vsr"].items(tmp_path, "val")
