"""``manyeyes convert data``."""

from __future__ import annotations

import json
from pathlib import Path

import data_rows as good
from cli_runs import invoke, the_object

OTHER = {**good.LLAVA, "conversations": []}


def test_people_see_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([good.LLAVA, OTHER]))
    words = ("convert", "data", tmp_path / "in.json", "--to", "messages")
    result = invoke(*words, "--out", tmp_path / "out.jsonl", "--skip-bad-rows")
    assert result.exit_code == 0, result.stderr
    assert "in.json: 1 samples (llava), 1 broken" in result.stdout
    assert "in.json:2: conversations" in result.stdout
    assert "out.jsonl: 1 samples (messages)" in result.stdout
    (row,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["messages"][1] == {"role": "assistant", "content": "A cube."}
    assert row["images"] == ["one.png"]


def test_programs_read_one_object(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([good.LLAVA]))
    words = ("convert", "data", tmp_path / "in.json", "--to", "llava", "--json")
    report = the_object(invoke(*words, "--out", tmp_path / "out.json"))
    assert (report["samples"], report["source"]["format"]) == (1, "llava")
    again = invoke(*words, "--out", tmp_path / "out.json")
    assert again.exit_code == 2
    assert the_object(again)["error"]["message"].endswith("exists: choose a new file")


def test_a_broken_row_fails_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps([good.LLAVA, OTHER]))
    words = ("convert", "data", tmp_path / "in.json", "--to", "llava", "--json")
    result = invoke(*words, "--out", tmp_path / "out.json")
    assert result.exit_code == 1
    error = the_object(result)["error"]
    assert (error["line"], error["key"]) == (2, "conversations")
    assert not (tmp_path / "out.json").exists()
