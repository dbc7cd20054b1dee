"""Phrase grounding: the two protocols for several boxes, ranks, types, both result layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entities_files import write_entities
from manyeyes.conversation.boxes import format_boxes
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item

ENTITIES = BENCHMARKS["flickr30k-entities"]
LEFT, RIGHT, AROUND = [10, 20, 30, 60], [50, 20, 70, 60], [10, 20, 70, 60]
HATS, DOG = [14, 10, 24, 20], [0, 0, 49, 49]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return ENTITIES.read_files([write_entities(tmp_path)])


def test_phrases_with_boxes_are_items(items: list[Item]) -> None:
    assert [item.id for item in items] == ["101/0/0", "101/0/1", "101/1/0", "102/0/0"]
    assert items[0].prompt == "Where is Two men? Give its box."
    assert items[0].meta["boxes"] == (tuple(LEFT), tuple(RIGHT))
    assert items[0].target == tuple(AROUND)
    assert (items[0].size, items[0].cluster, items[0].image) == ((100, 80), "101", "101.jpg")


def test_a_prompt_may_name_the_sentence(tmp_path: Path) -> None:
    prompt = 'Where is {phrase} in "{sentence}"?'
    items = ENTITIES.read_files([write_entities(tmp_path)], prompt=prompt)
    assert items[1].prompt == 'Where is hats in "Two men in hats watch it ."?'


def test_any_box_or_the_box_around_all(items: list[Item]) -> None:
    one: dict[str, Prediction] = {
        "101/0/0": RIGHT,
        "101/0/1": HATS,
        "101/1/0": AROUND,
        "102/0/0": DOG,
    }
    any_box = ENTITIES.score(items, one)
    merged = ENTITIES.score(items, one, variant="merged-box")
    assert any_box.per_item == {"101/0/0": 1.0, "101/0/1": 1.0, "101/1/0": 0.0, "102/0/0": 1.0}
    assert merged.per_item == {"101/0/0": 0.0, "101/0/1": 1.0, "101/1/0": 1.0, "102/0/0": 1.0}
    assert any_box.headline.value == merged.headline.value == 75.0
    by_type = any_box.headline.by["phrase_type"]
    assert by_type == {"animals": 100.0, "clothing": 100.0, "other": 0.0, "people": 50.0}
    assert ENTITIES.score(items, one).variant == "any-box"


@pytest.mark.parametrize(("bottom", "right"), [(24.5, 1.0), (24.4, 0.0)])
def test_iou_of_one_half_is_enough(items: list[Item], bottom: float, right: float) -> None:
    answers: dict[str, Prediction] = {item.id: [0, 0, 49, bottom] for item in items}
    assert ENTITIES.score(items, answers).per_item["102/0/0"] == right


def test_ranks_take_the_first_boxes(items: list[Item], tmp_path: Path) -> None:
    far = [90, 70, 99, 79]
    rows = [
        {"image_id": 101, "sentence_id": 0, "boxes": [[far, LEFT], [far] * 5 + [HATS]]},
        {"image_id": 101, "sentence_id": 1, "boxes": [[far] * 10 + [LEFT]]},
        {"image_id": "102", "sentence_id": "0", "boxes": [[DOG]]},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    result = ENTITIES.score(items, ENTITIES.load(path)).to_json()
    assert result["metrics"] == {"recall@1": 25.0, "recall@5": 50.0, "recall@10": 75.0}
    assert result["by"]["phrase_type.recall@5"]["people"] == 50.0


def test_text_answers(items: list[Item], tmp_path: Path) -> None:
    def said(box: Any) -> str:
        return f"Answer: {format_boxes([box], style='int1000', width=100, height=80)}"

    path = tmp_path / "results.jsonl"
    answers = {"101/0/0": said(LEFT), "101/0/1": "nowhere", "101/1/0": said(RIGHT), "102/0/0": ""}
    rows = [{"id": key, "answer": text} for key, text in answers.items()]
    path.write_text("\n".join(map(json.dumps, rows)))
    result = ENTITIES.score(items, ENTITIES.load(path), box_style="int1000")
    assert (result.headline.value, result.parse_failures) == (50.0, 2)


def test_too_few_or_too_many_phrases_are_refused(items: list[Item], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    row = {"image_id": 102, "sentence_id": 0, "boxes": [[DOG], [DOG]]}
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match="unknown ids: '102/0/1'"):
        ENTITIES.score(items, ENTITIES.load(path), allow_missing=True)
    with pytest.raises(DataError, match="no prediction for 4 ids"):
        ENTITIES.score(items, {})
    path.write_text(json.dumps([row, row]))
    with pytest.raises(DataError, match=r"results\.json, entry 2: id: '102/0/0' occurs twice"):
        ENTITIES.load(path)


@pytest.mark.parametrize("boxes", ['["[0.1,0.2,0.3,0.4]"]', "[[[1, 2, 3, NaN]]]", "[[[1, null]]]"])
def test_broken_results_are_named(tmp_path: Path, boxes: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(f'[{{"image_id": 1, "sentence_id": 0, "boxes": {boxes}}}]')
    with pytest.raises(DataError, match=r"results\.json, entry 1: boxes: expected"):
        ENTITIES.load(path)


def test_the_files_are_found_and_broken_ones_named(tmp_path: Path) -> None:
    write_entities(tmp_path)
    (tmp_path / "flickr30k-images").mkdir()
    for image in ("101", "102"):
        (tmp_path / "flickr30k-images" / f"{image}.jpg").write_bytes(b"a picture")
    items = ENTITIES.items(tmp_path, "test")
    assert items[0].image == str(tmp_path / "flickr30k-images" / "101.jpg")
    constant = ENTITIES.baseline(items, tmp_path, "test")
    assert ENTITIES.score(items, constant.answers).parse_failures == 0
    xml = tmp_path / "Annotations" / "102.xml"
    xml.write_text("<!DOCTYPE a><a/>")
    with pytest.raises(DataError, match=r"102\.xml: has a document type"):
        ENTITIES.items(tmp_path, "test")
    other = tmp_path / "results.json"
    other.write_text('{"image_id": 1}')
    with pytest.raises(DataError, match="expected a list of image ids with the folders"):
        ENTITIES.read_files([other])
