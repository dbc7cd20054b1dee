"""COCO detection and CODA: the reference vector through files, text answers, bad records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from manyeyes.conversation.boxes import format_boxes
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.evaluation.benchmarks import BENCHMARKS, detection_grades
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers import coco_metrics
from manyeyes.evaluation.tables.comparison import compare_predictions
from manyeyes.inference.questions import Item

pytest.importorskip("pycocotools")

COCO, CODA = BENCHMARKS["coco-detection"], BENCHMARKS["coda"]
INSTANCES: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (3, 1, 2)],
    "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "Traffic light"}],
    "annotations": [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
        for number, (image, category, box, crowd) in enumerate(
            [
                (1, 1, [10, 10, 20, 20], 0),
                (1, 3, [50, 50, 40, 30], 0),
                (2, 1, [0, 0, 30, 30], 0),
                (2, 1, [40, 40, 50, 50], 1),
                (3, 3, [5, 5, 100, 90], 0),
            ]
        )
    ],
}
DETECTIONS = [
    {"image_id": image, "category_id": category, "bbox": box, "score": score}
    for image, category, box, score in (
        (1, 1, [11, 11, 20, 20], 0.9),
        (1, 3, [52, 50, 40, 30], 0.8),
        (1, 1, [60, 60, 10, 10], 0.7),
        (2, 1, [0, 0, 30, 24], 0.6),
        (2, 1, [45, 45, 20, 20], 0.95),
        (3, 3, [10, 10, 90, 85], 0.5),
        (3, 1, [10, 10, 10, 10], 0.85),
    )
]
EXPECTED = {
    "AP": 68.8613861386,
    "AP50": 87.6237623762,
    "AP75": 87.6237623762,
    "APs": 52.6732673267,
    "APm": 85.0495049505,
    "AR1": 60.0,
    "AR10": 77.5,
    "AR100": 77.5,
    "ARs": 70.0,
    "ARm": 85.0,
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_grades, "DRAWS", 30)


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def _items(folder: Path, content: Any = INSTANCES) -> list[Item]:
    return COCO.read_files([_write(folder / "instances_val2017.json", content)])


def _found(folder: Path, rows: Any = DETECTIONS) -> dict[str, Prediction]:
    return COCO.load(_write(folder / "results.json", rows))


@pytest.mark.parametrize("engine", coco_metrics.ENGINES)
def test_reference_vector_through_files(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Annotation ids begin at 0 here, which pycocotools alone would take for "not matched"."""
    pytest.importorskip(engine)
    monkeypatch.setattr(coco_metrics, "ENGINES", (engine,))
    result = COCO.score(_items(tmp_path), _found(tmp_path))
    assert result.to_json()["metrics"] == pytest.approx(EXPECTED)
    assert engine.replace("_", "-") in result.notes[0]
    assert (result.n, result.parse_failures, result.headline.metric) == (3, 0, "AP")
    by_category = result.headline.by["category"]
    assert sum(by_category.values()) / 2 == pytest.approx(EXPECTED["AP"])
    assert list(by_category) == ["Traffic light", "dog"]


def test_intervals_hold_the_values_and_order_plays_no_part(tmp_path: Path) -> None:
    items, found = _items(tmp_path), _found(tmp_path)
    result = COCO.score(items, found).to_json()
    for metric in ("AP", "AP50", "AP75", "AR100"):
        low, high = result["ci95"][metric]
        assert low <= EXPECTED[metric] <= high and low < high
    assert "30 bootstrap draws" in result["notes"][1]
    again = COCO.score(items[::-1], dict(reversed(list(found.items())))).to_json()
    assert again["metrics"] == pytest.approx(result["metrics"])


def test_images_without_detections_may_be_left_out(tmp_path: Path) -> None:
    items = _items(tmp_path)
    perfect = [
        {**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5}
        for a in INSTANCES["annotations"]
        if not a["iscrowd"]
    ]
    assert COCO.score(items, _found(tmp_path, perfect)).headline.value == pytest.approx(100)
    less = COCO.score(items, _found(tmp_path, perfect[:2]))
    assert less.headline.value == pytest.approx(50, abs=1)
    assert less.per_item == {"1": pytest.approx(1), "2": 0.0, "3": 0.0}
    nothing = COCO.score(items, _found(tmp_path, []))
    assert (nothing.headline.value, nothing.parse_failures) == (0.0, 0)
    assert not any("missing" in note for note in nothing.notes)


def test_text_is_ranked_by_place_and_says_so(tmp_path: Path) -> None:
    items = _items(tmp_path)
    answers: dict[str, Prediction] = {
        "1": "traffic light [0.100,0.100,0.300,0.300], and dog [0.500,0.500,0.900,0.800].",
        "2": "Traffic light [0.000,0.000,0.300,0.300]",
        "3": "dog [0.050,0.050,1.000,0.950]",
    }
    result = COCO.score(items, answers)
    assert result.headline.value == pytest.approx(100)
    assert any("ranked by their place" in note for note in result.notes)
    first = {**answers, "1": f"traffic light [0.600,0.600,0.700,0.700] {answers['1']}"}
    last = {**answers, "1": f"{answers['1']} traffic light [0.600,0.600,0.700,0.700]"}
    assert COCO.score(items, last).headline.value > COCO.score(items, first).headline.value
    group = {**answers, "3": "dog [0.050,0.050,1.000,0.950;0.000,0.000,0.010,0.010]"}
    swapped = {**answers, "3": "dog [0.000,0.000,0.010,0.010;0.050,0.050,1.000,0.950]"}
    assert COCO.score(items, group).headline.value > COCO.score(items, swapped).headline.value


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    items = _items(tmp_path)
    answers: dict[str, Prediction] = {
        "1": "unicorn [0.100,0.100,0.300,0.300;0.1,0.1,0.2,0.2]",
        "2": "a dog on the left [0.1,0.2]",
        "3": "None.",
    }
    result = COCO.score(items, answers)
    assert (result.headline.value, result.parse_failures) == (0.0, 1)
    assert any(note.startswith("2 boxes under names that are no category") for note in result.notes)
    assert COCO.score(items, dict.fromkeys("123", "")).parse_failures == 3


def test_text_needs_the_size_of_its_image(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "1.jpg"}]
    items = _items(
        tmp_path, {**INSTANCES, "images": images, "annotations": INSTANCES["annotations"][:2]}
    )
    with pytest.raises(DataError, match=r"needs the size of image '1\.jpg'"):
        COCO.score(items, {"1": "dog [0.1,0.1,0.2,0.2]"})
    assert COCO.score(items, {"1": "none"}).headline.value == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('"score": NaN', r"results\.json, entry 2: score: expected a finite number, got nan"),
        ('"score": "0.5"', r"results\.json, entry 2: score: expected a finite number"),
        ('"score": true', r"results\.json, entry 2: score: expected a finite number"),
        ('"bbox": [1, 2, -3, 4]', r"results\.json, entry 2: bbox: expected .* sizes not negative"),
        ('"bbox": [1, 2, 3, Infinity]', r"entry 2: bbox: expected .* finite numbers"),
        ('"bbox": [1, 2, 3]', r"results\.json, entry 2: bbox: expected \[x, y, width, height\]"),
        ('"image_id": null', r"results\.json, entry 2: image_id: expected an id"),
        ('"category_id": 1.5', r"results\.json, entry 2: category_id: expected an id"),
    ],
)
def test_broken_detections_are_named(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([DETECTIONS[0], DETECTIONS[0] | json.loads(f"{{{change}}}")]))
    with pytest.raises(DataError, match=message):
        COCO.load(path)


def test_unknown_categories_and_images_are_refused(tmp_path: Path) -> None:
    items = _items(tmp_path)
    wrong = [DETECTIONS[0], {**DETECTIONS[1], "category_id": 7}]
    with pytest.raises(DataError, match=r"'1', entry 2: category_id: .* in \{.*'category_id': 7"):
        COCO.score(items, _found(tmp_path, wrong))
    with pytest.raises(DataError, match="unknown ids: '9'"):
        COCO.score(items, _found(tmp_path, [{**DETECTIONS[0], "image_id": 9}]))
    with pytest.raises(DataError, match="expected a list of detections for image '1'"):
        COCO.score(items, {"1": [[1, 2, 3, 4]]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 9}, r"annotations\[1\]\.category_id: expected the id of one of"),
        ({"image_id": 9}, r"annotations\[1\]\.image_id: expected the id of one of"),
        ({"bbox": [1, 2, -3, 4]}, r"annotations\[1\]\.bbox: .* not negative"),
        ({"area": "big"}, r"annotations\[1\]\.area: expected a number of pixels"),
    ],
)
def test_broken_annotations_are_named(tmp_path: Path, change: Any, message: str) -> None:
    first, second, *rest = INSTANCES["annotations"]
    with pytest.raises(DataError, match=message):
        _items(tmp_path, {**INSTANCES, "annotations": [first, {**second, **change}, *rest]})


def test_categories_need_ids_and_names_of_their_own(tmp_path: Path) -> None:
    categories = INSTANCES["categories"]
    for double in ({"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}):
        with pytest.raises(DataError, match=r"categories\[2\].*of its own"):
            _items(tmp_path, {**INSTANCES, "categories": [*categories, double]})
    with pytest.raises(UsageError, match="expected 1 annotation file"):
        COCO.read_files([tmp_path / "a.json", tmp_path / "b.json"])


def test_without_objects_ap_is_not_defined(tmp_path: Path) -> None:
    items = _items(tmp_path, {**INSTANCES, "annotations": []})
    with pytest.raises(DataError, match="AP is not defined"):
        COCO.score(items, {})


def test_two_runs_are_compared_by_bootstrap(tmp_path: Path) -> None:
    items, found = _items(tmp_path), _found(tmp_path)
    comparison = compare_predictions(COCO, items, found, _found(tmp_path, DETECTIONS[:2]))
    assert comparison.draws == 30
    assert comparison.headline.metric == "AP"
    assert comparison.headline.a == pytest.approx(EXPECTED["AP"])
    assert comparison.headline.difference > 0
    assert {m.metric for m in comparison.metrics} == {"AP", "AP50", "AP75", "AR100"}


def _coda(folder: Path, corner: set[int]) -> list[Item]:
    annotations = [{**a, "corner_case": a["id"] in corner} for a in INSTANCES["annotations"]]
    path = _write(folder / "annotations.json", {**INSTANCES, "annotations": annotations})
    return CODA.read_files([path])


def test_coda_over_all_objects_is_coco(tmp_path: Path) -> None:
    result = CODA.score(_coda(tmp_path, {0, 1, 2, 4}), _found(tmp_path)).to_json()
    assert list(result["metrics"])[:2] == ["AR100", "AR10"]
    for metric in ("AR100", "AR10", "AR1", "AP", "AP50", "AP75"):
        assert result["metrics"][metric] == pytest.approx(EXPECTED[metric])
        assert result["metrics"][f"{metric}_corner"] == pytest.approx(EXPECTED[metric])
    assert set(result["ci95"]) == {
        f"{m}{e}" for m in ("AR100", "AP", "AP50", "AP75") for e in ("", "_corner")
    }


def test_coda_ignores_the_other_objects_where_corner_cases_count(tmp_path: Path) -> None:
    items = _coda(tmp_path, {1})
    perfect = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": s}
        for a, s in zip(INSTANCES["annotations"], (0.9, 0.5, 0.9, 0.9, 0.9), strict=True)
    ]
    metrics = CODA.score(items, _found(tmp_path, perfect)).to_json()["metrics"]
    assert metrics["AP_corner"] == metrics["AR100_corner"] == pytest.approx(100)
    missed = CODA.score(items, _found(tmp_path, [perfect[0], perfect[2]])).to_json()["metrics"]
    assert (missed["AR100_corner"], missed["AP_corner"]) == (0.0, 0.0)
    assert missed["AR100"] == pytest.approx(50)


def test_coda_without_names(tmp_path: Path) -> None:
    items = _coda(tmp_path, {1})
    renamed = [{**d, "category_id": 4 - int(d["category_id"])} for d in DETECTIONS]
    named = CODA.score(items, _found(tmp_path, renamed)).to_json()["metrics"]
    agnostic = CODA.score(items, _found(tmp_path, renamed), variant="agnostic").to_json()["metrics"]
    assert named["AR100_corner"] == 0.0
    assert agnostic["AR100_corner"] == pytest.approx(100, abs=11)


def test_coda_needs_the_flag(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotation has a 'corner_case' flag"):
        CODA.read_files([_write(tmp_path / "annotations.json", INSTANCES)])
    annotations = [{**INSTANCES["annotations"][0], "corner_case": "yes"}]
    path = _write(tmp_path / "annotations.json", {**INSTANCES, "annotations": annotations})
    with pytest.raises(DataError, match=r"annotations\[0\]\.corner_case: expected true or false"):
        CODA.read_files([path])
    none = CODA.score(_coda(tmp_path, set()), _found(tmp_path)).to_json()["metrics"]
    assert "AR100" in none and "AR100_corner" not in none


def test_the_world_is_found_and_its_baseline_is_a_box(world: Path) -> None:
    items = COCO.items(world, "val")
    perfect: dict[str, Prediction] = {
        item.id: [
            {"category_id": o.category, "bbox": list(o.box), "score": 1}
            for o in item.meta["objects"]
        ]
        for item in items
    }
    assert COCO.score(items, perfect).headline.value == pytest.approx(100)
    constant = COCO.baseline(items, world, "val")
    assert constant.source == "train split"
    result = COCO.score(items, constant.answers)
    assert result.parse_failures == 0 and 0 <= result.headline.value < 50


class _Detector:
    """Says what is in the image, nothing without it."""

    fingerprint = "detector"
    box_style = "lion"
    generation: Mapping[str, Any] = {"do_sample": False}

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        return [_said(item) if with_images else "none" for item in items]


def _said(item: Item) -> str:
    names = item.meta["categories"]
    width, height = item.size or (0, 0)
    phrases = []
    for o in item.meta["objects"]:
        x, y, w, h = o.box
        box = format_boxes([(x, y, x + w, y + h)], style="lion", width=width, height=height)
        phrases.append(f"{names[o.category]} {box}")
    return ", ".join(phrases) or "none"


def test_a_model_is_asked_for_names_and_boxes(world: Path, tmp_path: Path) -> None:
    evaluate(_Detector(), ["coco-detection"], world, "val", tmp_path)
    entry = json.loads((tmp_path / "results.json").read_text())["benchmarks"]["coco-detection"]
    assert entry["model"]["metrics"]["AP"] == pytest.approx(100)
    assert entry["model"]["parse_failures"] == 0
    assert entry["text_only"]["metrics"]["AP"] == 0.0
    assert entry["majority"]["source"] == "train split"
    stored = COCO.load(tmp_path / "predictions-coco-detection.jsonl")
    again = COCO.score(COCO.items(world, "val"), stored, box_style="lion")
    assert again.to_json()["metrics"] == entry["model"]["metrics"]
