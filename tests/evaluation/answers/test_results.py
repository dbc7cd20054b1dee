"""Predictions files: layouts that are read, and what is said about files that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manyeyes.data.containers.rows import Row
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.results import keyed_rows, result_rows, row_loader, text_loader

LOAD = text_loader("question_id", "answer")
ROWS = [{"question_id": 7, "answer": "yes"}, {"question_id": "b", "answer": "", "extra": 1.5}]
EXPECTED = {"7": "yes", "b": ""}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        "\n".join(json.dumps(row) for row in ROWS) + "\n\n",
        EXPECTED,
        "\n".join(
            json.dumps({"id": key, "prediction": text, "key": "k", "raw": f"{text}\nmore"})
            for key, text in EXPECTED.items()
        ),
    ],
    ids=["list", "lines", "by id", "evaluate"],
)
def test_all_layouts_give_the_same_predictions(content: Any, tmp_path: Path) -> None:
    assert LOAD(write(tmp_path / "answers.json", content)) == EXPECTED


def test_one_line_alone_is_a_row(tmp_path: Path) -> None:
    assert LOAD(write(tmp_path / "a.json", ROWS[0])) == {"7": "yes"}
    own = {"id": "x", "prediction": "p", "key": "k", "raw": "p"}
    assert LOAD(write(tmp_path / "b.json", own)) == {"x": "p"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([*ROWS, ROWS[0]], r"a\.json, entry 3: question_id: '7' occurs twice"),
        ('{"7": "yes", "7": "no"}', r"a\.json: 7: '7' occurs twice in one object"),
        ([ROWS[0], {"answer": "yes"}], r"a\.json, entry 2: question_id: is missing"),
        ([{"question_id": 1, "anwser": "x"}], r"a\.json, entry 1: answer: is missing.*'anwser'"),
        ([{"question_id": 1, "answer": 2}], r"a\.json, entry 1: answer: expected a text, got 2"),
        ('[{"question_id": 1, "answer": NaN}]', r"answer: expected a text, got nan"),
        ('[{"question_id": NaN, "answer": "x"}]', r"question_id: expected an id"),
        ([{"question_id": True, "answer": "x"}], r"question_id: expected an id"),
        ({"7": None}, r"a\.json: 7: expected a text, got None"),
        ([ROWS[0], "yes"], r"a\.json, entry 2: expected an object, got 'yes'"),
        ({"questions": [{"question_id": 1}]}, "holds questions or annotations, not predictions"),
        ("", "is empty"),
        ("yes and no", r"a\.json:1: is not JSON"),
        ('{"question_id": 1, "answer": "x"}\n{"a": \n', r"a\.json:2: is not JSON"),
        ("3", "expected a JSON list or object, got 3"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_place(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=message):
        LOAD(path)


def test_bytes_that_are_not_utf8_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[\n{"question_id": 1, "answer": "caf\xe9"}]')
    with pytest.raises(DataError, match=r"a\.json:2: is not UTF-8 \(byte 0xe9\)"):
        LOAD(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"b\.json: no such file"):
        LOAD(tmp_path / "b.json")


def test_structured_predictions_have_their_own_parser(tmp_path: Path) -> None:
    def parse(row: Row) -> list[int]:
        return [int(rank) for rank in row.items("ranks", "a list of ranks")]

    load = row_loader("image_id", parse)
    rows = [{"image_id": 3, "ranks": [2, 1]}]
    assert load(write(tmp_path / "a.json", rows)) == {"3": [2, 1]}
    with pytest.raises(DataError, match="ranks: expected a list of ranks"):
        load(write(tmp_path / "a.json", [{"image_id": 3, "ranks": "12"}]))
    with pytest.raises(DataError, match="a list or lines of objects with 'image_id'"):
        load(write(tmp_path / "a.json", {"3": [2, 1]}))


def test_rows_and_objects_by_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"image_id": 1}, {"image_id": 1}])
    assert [row.number for row in result_rows(path)] == [1, 2]
    path = write(tmp_path / "b.json", {"q": {"direct_answer": "red"}})
    assert [(key, row.text("direct_answer")) for key, row in keyed_rows(path)] == [("q", "red")]
    with pytest.raises(DataError, match=r"b\.json, entry 1: q: expected an object, got 'red'"):
        list(keyed_rows(write(tmp_path / "b.json", {"q": "red"})))
    with pytest.raises(DataError, match="expected one JSON object"):
        list(keyed_rows(path.with_name("a.json")))
