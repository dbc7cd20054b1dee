"""RefCOCO's own files: splits inside the pickle, boxes as text and as numbers, both IoU rules."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from manyeyes.conversation.boxes import format_boxes
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item

NAMES = ("refcoco", "refcoco+", "refcocog")
REFCOCO = BENCHMARKS["refcoco"]
IMAGE = "COCO_train2014_000000000005.jpg"
INSTANCES = {
    "images": [{"id": 5, "file_name": IMAGE, "width": 200, "height": 100}],
    "annotations": [
        {"id": 50, "image_id": 5, "category_id": 1, "bbox": [10, 20, 80, 40]},
        {"id": 51, "image_id": 5, "category_id": 1, "bbox": [100, 0, 50, 50]},
    ],
    "categories": [{"id": 1, "name": "cat"}],
}


def _ref(number: int, annotation: int, split: str, sentences: dict[int, str]) -> dict[str, Any]:
    return {
        "ref_id": number,
        "ann_id": annotation,
        "image_id": 5,
        "split": split,
        "file_name": f"COCO_train2014_000000000005_{annotation}.jpg",
        "sentences": [{"sent_id": i, "sent": text} for i, text in sentences.items()],
    }


REFS = [
    _ref(1, 50, "val", {11: "left cat", 12: "cat lying down"}),
    _ref(2, 51, "testA", {13: "right cat"}),
    _ref(3, 51, "train", {14: "sitting cat"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "refcoco").mkdir()
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol=2))
    (tmp_path / "refcoco" / "instances.json").write_text(json.dumps(INSTANCES))
    return tmp_path


def val_items(folder: Path) -> list[Item]:
    return REFCOCO.read_files([folder / "refcoco" / "refs(unc).p"], split="val")


def test_a_sentence_is_an_item_and_the_split_is_that_of_its_reference(folder: Path) -> None:
    items = val_items(folder)
    assert [item.id for item in items] == ["11", "12"]
    assert items[0].prompt == "Where is left cat? Give its box."
    assert items[0].target == (10, 20, 90, 60)
    assert (items[0].size, items[0].cluster, items[0].image) == ((200, 100), "5", IMAGE)
    pair = [folder / "refcoco" / "refs(unc).p", folder / "refcoco" / "instances.json"]
    assert [item.id for item in REFCOCO.read_files(pair, split="testA")] == ["13"]


def test_one_split_must_be_chosen_and_exist(folder: Path) -> None:
    path = folder / "refcoco" / "refs(unc).p"
    with pytest.raises(UsageError, match="holds the splits testA, train, val; choose one"):
        REFCOCO.read_files([path])
    with pytest.raises(DataError, match="nothing for split 'testB'; splits: testA, train, val"):
        REFCOCO.read_files([path], split="testB")
    with pytest.raises(UsageError, match="got 3 files"):
        REFCOCO.read_files([path] * 3, split="val")


def test_text_in_every_style_and_numbers_in_pixels_score_alike(folder: Path) -> None:
    items = val_items(folder)
    for style in ("shikra", "lion", "int1000"):
        box = format_boxes([(10, 20, 90, 60)], style=style, width=200, height=100)
        texts: dict[str, Prediction] = {item.id: f"Answer: {box} ." for item in items}
        result = REFCOCO.score(items, texts, box_style=style)
        assert (result.headline.value, result.parse_failures) == (100.0, 0)
        assert result.to_json()["metrics"]["mean_iou"] == pytest.approx(100, abs=1)
    numbers: dict[str, Prediction] = {item.id: [10, 20, 90, 60] for item in items}
    result = REFCOCO.score(items, numbers)
    assert result.to_json()["metrics"] == {"accuracy": 100.0, "mean_iou": 100.0}


def test_half_of_the_box_is_right_officially_and_wrong_for_shikra(folder: Path) -> None:
    items = val_items(folder)
    half: dict[str, Prediction] = {item.id: [10, 20, 50, 60] for item in items}
    assert REFCOCO.score(items, half).headline.value == 100.0
    assert REFCOCO.score(items, half).to_json()["metrics"]["mean_iou"] == 50.0
    assert REFCOCO.score(items, half, variant="shikra").headline.value == 0.0


def test_shikra_compares_with_three_decimals_of_the_padded_square(folder: Path) -> None:
    """With 3 decimals of 2,000 pixels the target 0..3 becomes 0..4, so 0..2 is half of it."""
    instances = {**INSTANCES, "images": [{**INSTANCES["images"][0], "width": 2000, "height": 2000}]}  # type: ignore[dict-item]
    instances["annotations"] = [{"id": 50, "image_id": 5, "bbox": [0, 0, 3, 1000]}]
    (folder / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (folder / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(REFS[:1], protocol=2))
    items = val_items(folder)
    narrow: dict[str, Prediction] = {item.id: [0, 0, 2, 1000] for item in items}
    plain = REFCOCO.score(items, narrow).to_json()["metrics"]
    assert plain == {"accuracy": 100.0, "mean_iou": pytest.approx(200 / 3)}
    written = REFCOCO.score(items, narrow, variant="shikra").to_json()["metrics"]
    assert written == {"accuracy": 0.0, "mean_iou": pytest.approx(50)}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "on the left",
        "[0.1,0.2,0.3]",
        "[0.1,0.2,0.3,0.4] [0.1,0.2,0.3,0.4]",
        "[0.1,0.2,0.3,0.4;0.1,0.2,0.3,0.4]",
        "[0.9,0.2,0.3,0.4]",
        [],
        [10, 20, 90],
        [10, 20, 90, 60, 70],
        [90, 20, 10, 60],
        [[10, 20, 90, 60], [10, 20, 90, 60]],
        [[10, 20, 90, 60], [1, 2]],
    ],
)
def test_no_box_or_not_one_box_is_wrong_and_counted(folder: Path, answer: Prediction) -> None:
    items = val_items(folder)
    result = REFCOCO.score(items, {"11": [10, 20, 90, 60], "12": answer})
    assert (result.headline.value, result.parse_failures, result.n) == (50.0, 1, 2)
    assert result.per_item == {"11": 1.0, "12": 0.0}


def test_boxes_without_area_have_no_overlap(folder: Path) -> None:
    instances = {**INSTANCES, "annotations": [{"id": 50, "image_id": 5, "bbox": [10, 20, 0, 0]}]}
    (folder / "refcoco" / "instances.json").write_text(json.dumps(instances))
    (folder / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(REFS[:1], protocol=2))
    items = val_items(folder)
    result = REFCOCO.score(items, {"11": [10, 20, 10, 20], "12": [0, 0, 0, 0]})
    assert result.to_json()["metrics"] == {"accuracy": 0.0, "mean_iou": 0.0}
    assert result.parse_failures == 0


def test_missing_predictions_are_no_parse_failures(folder: Path) -> None:
    result = REFCOCO.score(val_items(folder), {"11": [10, 20, 90, 60]}, allow_missing=True)
    assert (result.headline.value, result.parse_failures) == (50.0, 0)


def test_shikra_lines_hold_corners_and_sizes(tmp_path: Path) -> None:
    row = {"img_path": IMAGE, "expression": "left cat", "bbox": [10, 20, 90, 60]}
    path = tmp_path / "REC_refcoco_unc_val.jsonl"
    path.write_text(json.dumps({**row, "height": 100, "width": 200}) + "\n" + json.dumps(row))
    first, second = REFCOCO.read_files([path])
    assert first.target == second.target == (10, 20, 90, 60)
    assert (first.id, second.id) == ("REC_refcoco_unc_val:1", "REC_refcoco_unc_val:2")
    assert (first.size, second.size) == ((200, 100), None)
    numbers: dict[str, Prediction] = {first.id: [10, 20, 90, 60], second.id: [10, 20, 90, 60]}
    assert REFCOCO.score([first, second], numbers).headline.value == 100.0
    with pytest.raises(DataError, match=rf"needs the size of image '{IMAGE}'.* no such file"):
        REFCOCO.score([second], {second.id: "[0.1,0.2,0.3,0.4]"})


def test_result_files_hold_text_or_numbers(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = [{"sent_id": 11, "answer": "[0.1,0.2,0.3,0.4]"}, {"sent_id": 12, "answer": [1, 2, 3]}]
    path.write_text(json.dumps(rows))
    assert REFCOCO.load(path) == {"11": "[0.1,0.2,0.3,0.4]", "12": [1, 2, 3]}
    path.write_text(json.dumps({"11": [[1, 2, 3, 4.5]], "12": ""}))
    assert REFCOCO.load(path) == {"11": [[1, 2, 3, 4.5]], "12": ""}


@pytest.mark.parametrize(
    "answer", ["NaN", "[1, 2, 3, NaN]", "[1, 2, 3, Infinity]", '["1", 2, 3, 4]', "null", "{}", "7"]
)
def test_answers_that_are_no_numbers_are_named(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(f'[{{"sent_id": 1, "answer": ""}}, {{"sent_id": 11, "answer": {answer}}}]')
    with pytest.raises(DataError, match=r"entry 2: answer: expected box text, or \[x1"):
        REFCOCO.load(path)


@pytest.mark.parametrize("name", NAMES)
def test_official_folders_are_found(name: str, tmp_path: Path) -> None:
    owner = "umd" if name == "refcocog" else "unc"
    (tmp_path / name).mkdir()
    (tmp_path / name / f"refs({owner}).p").write_bytes(pickle.dumps(REFS, protocol=2))
    (tmp_path / name / "instances.json").write_text(json.dumps(INSTANCES))
    (tmp_path / "train2014").mkdir()
    (tmp_path / "train2014" / IMAGE).write_bytes(b"a picture")
    benchmark = BENCHMARKS[name]
    items = benchmark.items(tmp_path, "val")
    assert [item.image for item in items] == [str(tmp_path / "train2014" / IMAGE)] * 2
    constant = benchmark.baseline(items, tmp_path, "val")
    assert constant.source == "train split"
    assert constant.answers["11"] == "[0.500,0.250,0.750,0.500]"
    assert benchmark.baseline(items, tmp_path, "val", box_style="lion").answers["11"] == (
        "[0.500,0.000,0.750,0.500]"
    )


def test_the_worlds_pickle_scores_as_its_lines_do(world: Path) -> None:
    items = REFCOCO.items(world, "val")
    lines = {item.id: item for item in BENCHMARKS["rec"].items(world, "val")}
    assert {item.id for item in items} == set(lines)
    assert all(item.target == lines[item.id].target for item in items)
    answers: dict[str, Prediction] = {item.id: list(item.target or ()) for item in items}
    assert REFCOCO.score(items, answers).headline.value == 100.0
    assert REFCOCO.baseline(items, world, "val").source == "train split"
