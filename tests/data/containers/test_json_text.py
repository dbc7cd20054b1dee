"""A key that stands twice in one object is an error with line and key; the last never wins."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from manyeyes.data.containers.json_text import Repeated, parse_json
from manyeyes.data.files import read_samples
from manyeyes.errors import DataError

ROW = '{"id": "a", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", %s}]}'
GOOD, TWICE = '"value": "one"', '"value": "one", "value": "two"'


def test_what_is_there_once_is_plain() -> None:
    value, repeats = parse_json('{"a": [{"b": 1}, {"b": 2}]}')
    assert value == {"a": [{"b": 1}, {"b": 2}]} and not repeats
    value, repeats = parse_json('{"a": [{"b": 1, "c": 2, "b": 3}]}')
    assert repeats and isinstance(value["a"][0], Repeated) and value["a"][0].key == "b"


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_the_row_and_the_key_are_named(layout: str, tmp_path: Path) -> None:
    rows = [ROW % GOOD, ROW % TWICE, ROW % GOOD]
    path = tmp_path / ("rows.jsonl" if layout == "lines" else "rows.json")
    path.write_text("\n".join(rows) if layout == "lines" else f"[{', '.join(rows)}]")
    with pytest.raises(DataError) as caught:
        read_samples(path)
    error = caught.value
    place = f"{path}:2" if layout == "lines" else f"{path}, entry 2"
    assert str(error).startswith(f"{place}: conversations[1].value: ")
    assert (error.file, error.key) == (str(path), "conversations[1].value")
    assert (error.line, error.entry) == ((2, None) if layout == "lines" else (None, 2))
    assert "'value' occurs twice in one object" in str(error)
    samples, report = read_samples(path, skip_bad_rows=True)
    assert (len(samples), report.broken) == (2, 1)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"images": [], "images": [], "annotations": [], "categories": []}', "images"),
        ('{"1": {"question": "a"}, "2": {"question": "b"}, "1": {"question": "c"}}', "1"),
        ('{"questions": [{"question_id": 1, "image_id": 2, "image_id": 3}]}', None),
    ],
)
def test_files_that_are_one_object(text: str, key: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DataError, match="occurs twice in one object") as caught:
        read_samples(path)
    assert caught.value.file == str(path)
    assert caught.value.key == (key or "questions[0].image_id")


def test_members_of_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "rows.tar"
    with tarfile.open(path, "w") as tar:
        for name, text in (("a.json", ROW % GOOD), ("b.json", ROW % TWICE)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    with pytest.raises(DataError) as caught:
        read_samples(path)
    assert (caught.value.entry, caught.value.key) == (2, "conversations[1].value")


def test_long_objects_are_looked_through_in_moments() -> None:
    content = {str(number): number for number in range(200_000)}
    value, repeats = parse_json(json.dumps(content))
    assert value == content and not repeats
