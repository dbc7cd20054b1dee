"""A benchmark that is only data: file names and columns, in every layout of files and answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.choices import ChoiceColumns, choice_benchmark
from manyeyes.evaluation.benchmarks.files import placed

LETTERS = ChoiceColumns(options=("A", "B", "C"), id="idx", context="hint", groups={"task": "kind"})
PLACES = ChoiceColumns(options="choices", answers="place")
TEXTS = ChoiceColumns(options="choices", answers="text")
TABLE = (
    "idx\timage\tquestion\tA\tB\tC\tanswer\thint\tkind\n"
    "7\tx.png\tHow many?\t1\t2\t\t(b)\tCount.\tcount\n"
)
ROW = {"image": "x.png", "question": "How many?", "choices": ["1", "2"]}


@pytest.mark.parametrize(
    ("name", "columns", "content"),
    [
        ("q.tsv", LETTERS, TABLE),
        ("q.csv", LETTERS, TABLE.replace("\t", ",")),
        ("q.json", PLACES, json.dumps([{**ROW, "answer": 1}])),
        ("q.jsonl", TEXTS, json.dumps({**ROW, "answer": "2"}) + "\n"),
    ],
)
def test_columns_are_all_that_a_benchmark_needs(
    tmp_path: Path, name: str, columns: ChoiceColumns, content: str
) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / name).write_text(content)
    (tmp_path / "x.png").touch()
    made = choice_benchmark("toy", "a toy", files=placed(name), read_one=columns)
    (item,) = made.items(tmp_path, "test")
    assert item.references == ("B",)
    assert item.candidates == ("1", "2")
    assert item.prompt.endswith(
        "How many?\nA. 1\nB. 2\nAnswer with the option's letter from the given choices directly."
    )
    assert item.id == ("7" if columns is LETTERS else "1")
    assert item.groups == ({"task": "count"} if columns is LETTERS else {})
    assert item.prompt.startswith("Count.\n") == (columns is LETTERS)
    for said in ("B", {"losses": [0.2, 0.1]}):
        assert made.score([item], {item.id: said}).headline.value == 100.0
    (tmp_path / "said.jsonl").write_text(json.dumps({"id": item.id, "losses": [0.2, 0.1]}))
    assert made.load(tmp_path / "said.jsonl") == {item.id: {"losses": [0.2, 0.1]}}


@pytest.mark.parametrize(
    ("columns", "changed", "message"),
    [
        (PLACES, {"answer": 2}, r"q\.json, entry 1: answer: expected a place from 0 to 1, got '2'"),
        (TEXTS, {"answer": "3"}, r"answer: expected one of '1', '2', got '3'"),
        (
            ChoiceColumns(options="choices"),
            {"answer": "C"},
            "expected one of A, B, got 'C'",
        ),
        (PLACES, {"answer": 0, "choices": ["1"]}, "choices: expected 2 to 26 options, got 1"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, columns: ChoiceColumns, changed: dict[str, object], message: str
) -> None:
    path = tmp_path / "q.json"
    path.write_text(json.dumps([{**ROW, **changed}]))
    with pytest.raises(DataError, match=message):
        choice_benchmark("toy", "a toy", files=("q.json",), read_one=columns).read_files([path])


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    made = choice_benchmark("toy", "a toy", files=placed("q_{split}.tsv"), read_one=LETTERS)
    expected = r"holds no toy questions for split 'val'; .*: q_val\.tsv, annotations/q_val\.tsv"
    with pytest.raises(DataError, match=expected):
        made.items(tmp_path, "val")
    (tmp_path / "q_val.tsv").write_text(TABLE.splitlines()[0] + "\n")
    with pytest.raises(DataError, match="holds no rows"):
        made.items(tmp_path, "val")
