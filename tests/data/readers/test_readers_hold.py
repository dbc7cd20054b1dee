"""Whatever stands at any place of a file, reading ends in samples and named errors."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import data_rows as good
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import FileReport, check_file

ODD_VALUES: tuple[Any, ...] = (None, True, -0.5, "", "x", [], {}, [[]], [None])
FILES = {
    "llava": [
        {
            **good.LLAVA,
            "boxes": [[[0, 0, 1, 1]]],
            "task": "t",
            "box_image": 0,
            "conversations": [
                {"from": "human", "value": "<image>"},
                {"from": "gpt", "value": "<boxes>"},
            ],
        }
    ],
    "sharegpt": [good.SHAREGPT],
    "openai": [good.OPENAI],
    "pope": [good.POPE],
    "refcoco": [good.REF],
    "coco_captions": good.CAPTIONS,
    "coco_instances": good.INSTANCES,
    "vqa": good.QUESTIONS,
    "karpathy": good.KARPATHY,
    "gqa": good.GQA,
    "image_text": [good.IMAGE_TEXT],
    "question_answer": [good.QUESTION_ANSWER],
    "visual_genome": good.REGIONS + good.GENOME_QUESTIONS,
    "shikra": [
        good.SHIKRA,
        good.SHIKRA_REASONING,
        good.SHIKRA_SENTENCE,
        good.POINT_QUESTION,
        good.POINTING,
    ],
}


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        yield (*way, key)
        if isinstance(child, dict | list):
            yield from _places(child, (*way, key))


def _changed(content: Any, way: tuple[Any, ...], odd: Any) -> Any:
    content = copy.deepcopy(content)
    holder = content
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = odd
    return content


def _check(path: Path, name: str) -> FileReport:
    return check_file(path, format=name, options=SourceOptions("pics"))


@pytest.mark.parametrize("name", FILES)
def test_odd_values_anywhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / "v2_questions.json"
    answers = tmp_path / "v2_annotations.json"
    answers.write_text(json.dumps(good.ANSWERS))
    path.write_text(json.dumps(FILES[name]))
    assert _check(path, name).broken == 0
    for way in _places(FILES[name]):
        for odd in ODD_VALUES:
            path.write_text(json.dumps(_changed(FILES[name], way, odd)))
            report = _check(path, name)
            assert report.samples + report.broken >= (0 if odd == [] else 1), (way, odd)


def test_odd_values_in_the_second_file_of_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "v2_questions.json"
    path.write_text(json.dumps(good.QUESTIONS))
    for way in _places(good.ANSWERS):
        for odd in ODD_VALUES:
            changed = _changed(good.ANSWERS, way, odd)
            (tmp_path / "v2_annotations.json").write_text(json.dumps(changed))
            report = _check(path, "vqa")
            assert report.samples + report.broken >= 1, (way, odd)
