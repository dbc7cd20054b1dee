"""POPE's files: old and new random sets, answers without ids, and published rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manyeyes.errors import DataError
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.evaluation.contract import BenchmarkResult


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_set(path: Path, positives: int, negatives: int) -> Path:
    """A set with so many yes and no questions, ids from 1, six on an image."""
    labels = ["yes"] * positives + ["no"] * negatives
    rows = [
        {
            "question_id": number,
            "image": f"COCO_val2014_{number // 6:012d}.jpg",
            "text": "Is there a snowboard in the image?",
            "label": label,
        }
        for number, label in enumerate(labels, start=1)
    ]
    return write_lines(path, rows)


def answers_of(positives: int, negatives: int, precision: float, recall: float) -> list[str]:
    """Answers with the rounded numbers of hits and false alarms that two shares imply."""
    hits = round(positives * recall)
    alarms = round(hits * (1 / precision - 1))
    said = ["yes"] * hits + ["no"] * (positives - hits)
    return said + ["yes"] * alarms + ["no"] * (negatives - alarms)


def scored(files: list[Path], rows: list[dict[str, Any]], variant: str | None = None) -> Any:
    path = write_lines(files[0].parent / "answers.jsonl", rows)
    return score_file(Scoring("pope", files, variant=variant), path).result


def metrics(result: BenchmarkResult) -> dict[str, float]:
    found: dict[str, float] = result.to_json()["metrics"]
    return found


PUBLISHED = [
    ("LION random", 1410, 0.9712, 0.8100, 88.97),
    ("LION popular", 1500, 0.9169, 0.8087, 86.77),
    ("LION adversarial", 1500, 0.8869, 0.8107, 85.37),
    ("Shikra random", 1410, 0.9440, 0.7926, 86.90),
    ("Shikra popular", 1500, 0.8755, 0.7920, 83.97),
    ("Shikra adversarial", 1500, 0.8560, 0.7960, 83.10),
]
"""Negatives, precision and recall of the papers' tables, and the accuracy that they print."""


@pytest.mark.parametrize("row", PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_published_rows_through_the_files(row: Any, tmp_path: Path) -> None:
    name, negatives, precision, recall, accuracy = row
    one_answer = 100 / (1500 + negatives)
    file = write_set(tmp_path / f"coco_pope_{name.split()[1]}.json", 1500, negatives)
    said = answers_of(1500, negatives, precision, recall)
    rows = [{"question_id": n, "answer": text} for n, text in enumerate(said, start=1)]
    result = scored([file], rows)
    found = metrics(result)
    assert found["accuracy"] == pytest.approx(accuracy, abs=one_answer)
    f1 = 200 * precision * recall / (precision + recall)
    assert found["f1"] == pytest.approx(f1, abs=one_answer)
    assert found["precision"] == pytest.approx(100 * precision, abs=0.05)
    assert result.n == 1500 + negatives
    assert result.notes == (f"questions by set: {name.split()[1]} {1500 + negatives}",)


def test_the_random_rows_do_not_fit_the_new_file(tmp_path: Path) -> None:
    """With 1,500 negatives the same precision and recall give .8930 and .8728."""
    file = write_set(tmp_path / "coco_pope_random.json", 1500, 1500)
    for precision, recall, accuracy in ((0.9712, 0.81, 89.30), (0.9440, 0.7926, 87.28)):
        said = answers_of(1500, 1500, precision, recall)
        rows = [{"question_id": n, "answer": text} for n, text in enumerate(said, start=1)]
        assert metrics(scored([file], rows))["accuracy"] == pytest.approx(accuracy, abs=0.02)


def test_official_answers_without_ids_are_matched_by_line(tmp_path: Path) -> None:
    file = write_set(tmp_path / "coco_pope_popular.json", 2, 2)
    rows = [{"question": "Is there?", "answer": text} for text in ("Yes", "No.", "No", "Not sure")]
    result = scored([file], rows)
    assert list(result.per_item.values()) == [1.0, 0.0, 1.0, 0.0]
    strict = scored([file], rows, "strict")
    assert (list(strict.per_item.values()), strict.parse_failures) == ([1.0, 0.0, 1.0, 0.0], 1)
    with pytest.raises(DataError, match="no prediction for 1 ids: '4'"):
        scored([file], rows[:3])
    with pytest.raises(DataError, match="question_id: is missing"):
        scored([file], [{"question_id": 1, "answer": "Yes"}, *rows[1:]])


def test_several_sets_have_the_set_in_their_ids(tmp_path: Path) -> None:
    names = ("random", "popular")
    files = [write_set(tmp_path / f"coco_pope_{name}.json", 1, 1) for name in names]
    rows = [{"question_id": f"{name}/{n}", "answer": "yes"} for name in names for n in (1, 2)]
    result = scored(files, rows)
    assert result.to_json()["by"]["set"] == {"popular": 50.0, "random": 50.0}
    assert result.notes == ("questions by set: random 2, popular 2",)


def test_labels_other_than_yes_and_no_are_named(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "coco_pope_random.json",
        [{"question_id": 1, "image": "a.jpg", "text": "Is there?", "label": "Yes"}],
    )
    with pytest.raises(DataError, match=r"entry 1: label: expected one of 'yes', 'no'"):
        scored([file], [{"question_id": 1, "answer": "yes"}])
