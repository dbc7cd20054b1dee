"""Expressions for boxed objects: by object or by sentence, the official evaluator's rules."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.tables.comparison import compare_predictions
from manyeyes.inference.questions import Item

REG = BENCHMARKS["reg"]
REFERENCES = (
    (
        "A red cube is left of a blue sphere.",
        "A red cube beside a blue sphere",
        "there's a blue ball and a red cube",
    ),
    (
        "Two green cylinders stand on a grey floor.",
        "two green cylinders",
        "A pair of green cylinders on the floor",
    ),
    (
        "A small yellow ball (shiny) behind a large cube.",
        "a yellow ball behind a cube",
        "The yellow sphere is hidden behind a big cube",
    ),
)
ANSWERS = (
    "a red cube left of a blue ball",
    "two green cylinders on a grey floor",
    "A big cube in front of a yellow ball.",
)


def _items(folder: Path, references: Any = REFERENCES) -> list[Item]:
    instances = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [{"id": i, "image_id": 5, "bbox": [i, 0, 10, 20]} for i in range(3)],
    }
    (folder / "instances.json").write_text(json.dumps(instances))
    refs = [
        {
            "ref_id": 10 + number,
            "ann_id": number,
            "image_id": 5,
            "split": "val",
            "sentences": [
                {"sent_id": 100 * number + place, "sent": text}
                for place, text in enumerate(sentences)
            ],
        }
        for number, sentences in enumerate(references)
    ]
    path = folder / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs, protocol=2))
    return REG.read_files([path])


def _answers(texts: Any = ANSWERS) -> dict[str, Prediction]:
    return {str(10 + number): text for number, text in enumerate(texts)}


def test_objects_are_items_and_their_sentences_references(tmp_path: Path) -> None:
    first, second, _ = _items(tmp_path)
    assert (first.id, first.references) == ("10", REFERENCES[0])
    assert first.prompt == "What is at <boxes>?"
    assert second.boxes == (((1, 0, 11, 20),),)
    assert (first.size, first.split, first.cluster) == ((100, 80), "val", "5")


def test_reference_vector_of_the_caption_metrics(tmp_path: Path) -> None:
    """The objects of the vector share an image here, so that there is no interval."""
    result = REG.score(_items(tmp_path), _answers())
    metrics = result.to_json()["metrics"]
    assert metrics["CIDEr"] == pytest.approx(3.2909769170783907)
    assert metrics["BLEU-4"] == pytest.approx(0.471404521)
    assert metrics["ROUGE-L"] == pytest.approx(0.743283828)
    assert list(result.per_item.values()) == pytest.approx([4.042886862, 4.172504873, 1.657539016])
    assert result.notes[0] == "CIDEr document frequencies are those of 3 objects"
    assert result.to_json()["ci95"] == {}


def test_per_sentence_every_sentence_stands_alone(tmp_path: Path) -> None:
    items = _items(tmp_path)
    whole = REG.score(items, _answers(), variant="per_sentence").to_json()
    alone = _items(tmp_path, [[text] for sentences in REFERENCES for text in sentences][:3])
    first = _answers([ANSWERS[0]] * 3)
    per_ref = REG.score(alone, first).to_json()["metrics"]
    only = _items(tmp_path, [REFERENCES[0], ["x"], ["y"]])[:1]
    per_sentence = REG.score(only, {"10": ANSWERS[0]}, variant="per_sentence")
    assert per_sentence.to_json()["metrics"] == pytest.approx(per_ref)
    assert "3 sentences of 1 objects" in per_sentence.notes[0]
    assert "a part of the 3 of the split" in per_sentence.notes[0]
    assert whole["metrics"]["CIDEr"] != pytest.approx(3.2909769170783907, abs=0.01)
    assert (whole["n"], whole["variant"]) == (3, "per_sentence")


def test_per_sentence_item_scores_are_means(tmp_path: Path) -> None:
    result = REG.score(_items(tmp_path), _answers(), variant="per_sentence")
    mean = sum(result.per_item.values()) / 3  # three sentences each: the mean of means is the mean
    assert result.headline.value == pytest.approx(mean)


def test_letters_outside_ascii_are_dropped_from_references(tmp_path: Path) -> None:
    plain = _items(tmp_path, [["the caf table"], ["a dog"], ["a cat"]])
    expected = REG.score(plain, _answers(["the caf table", "a dog", "a cat"]))
    accented = _items(tmp_path, [["the café table"], ["a dog"], ["a cat"]])
    said = REG.score(accented, _answers(["the caf table", "a dog", "a cat"]))
    assert said.headline.value == pytest.approx(expected.headline.value)
    assert accented[0].references == ("the café table",)
    nothing = _items(tmp_path, [["猫"], ["a dog"], ["a cat"]])
    assert REG.score(nothing, _answers(["a cat", "a dog", "a cat"])).per_item["10"] == 0.0


def test_lines_are_grouped_by_their_reference(tmp_path: Path) -> None:
    line = {"image": "a.jpg", "expression": "left cat", "bbox": [1, 2, 3, 4]}
    lines = [{**line, "ref_id": 4, "id": 1}, {**line, "ref_id": 4, "id": 2}, {**line, "id": 3}]
    path = tmp_path / "refs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [(i.id, len(i.references)) for i in REG.read_files([path])] == [("4", 2), ("3", 1)]


def test_two_runs_are_compared_under_both_groupings(tmp_path: Path) -> None:
    items = _items(tmp_path)
    other = _answers([*ANSWERS[:2], "something else"])
    for variant in REG.variants:
        result = compare_predictions(REG, items, _answers(), other, variant=variant, draws=50)
        assert result.headline.difference > 0
        assert {"CIDEr", "BLEU-4", "ROUGE-L"} <= {metric.metric for metric in result.metrics}


def test_results_are_named_by_reference(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"ref_id": 10, "sent": "left bottle"}]))
    assert REG.load(path) == {"10": "left bottle"}
    path.write_text('[{"ref_id": 10, "sent": "a"}, {"ref_id": 10, "sent": "b"}]')
    with pytest.raises(DataError, match=r"results\.json, entry 2: ref_id: '10' occurs twice"):
        REG.load(path)
    path.write_text('[{"ref_id": 10, "sent": null}]')
    with pytest.raises(DataError, match=r"results\.json, entry 1: sent: expected a text"):
        REG.load(path)


def test_the_world_has_references(world: Path) -> None:
    items = REG.items(world, "val")
    answers: dict[str, Prediction] = {item.id: item.references[0] for item in items}
    result = REG.score(items, answers)
    assert result.headline.value > 1 and result.headline.ci95 is not None
    assert REG.baseline(items, world, "val").source == "train split"
