"""Requests that make no sense, from Python and from the command line: a named error each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacks import run
from manyeyes.errors import UsageError
from manyeyes.serving.chat import Conversation


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 3)), None, b"x", 5, ["a.png"]])
def test_a_conversation_is_shown_files(build: Callable[..., Any], picture: object) -> None:
    with pytest.raises(UsageError, match="show takes the path of an image file, got a "):
        Conversation(*build()).show(picture)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["arms", "benchmarks"])
def test_a_study_without_arms_has_no_report(key: str, tmp_path: Path) -> None:
    whole = {"arms": {"a": "clip/world"}, "benchmarks": {"vqa": "VQA"}, "seeds": 1}
    plan = {**whole, "budget": None, "data": "data", "split": "test", key: {}}
    records = tmp_path / "records"
    records.mkdir()
    (records / "study.json").write_text(json.dumps(plan))
    (records / "questions.jsonl").write_text("")
    end = run("report", tmp_path)
    assert end.report["error"]["type"] == "DataError"
    assert end.report["error"]["file"] == str(records / "study.json")
    assert end.report["error"]["key"] == key


def test_a_question_that_is_no_text_is_an_error(
    build: Callable[..., Any], pictures: list[Any], tmp_path: Path
) -> None:
    """Bytes on the command line that are not UTF-8 arrive as halves of characters."""
    pictures[0].save(tmp_path / "x.png")
    talk = Conversation(*build())
    talk.show(tmp_path / "x.png")
    with pytest.raises(UsageError, match="the question holds half a character"):
        talk.ask("what\udc80?")
