"""``manyeyes ablate`` from beginning to end on a tiny model, and what it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
import tiny_detector
from cli_runs import invoke, the_object
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import UsageError
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.study.ablation import ablate as study
from manyeyes.study.ablation.ablate import ALL, ORACLE, Ablation, conditions
from manyeyes.study.ablation.utility import adjusted, utilities
from manyeyes.world.make import make_world

Build = Callable[..., tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(
        folder, images={"train": 4, "test": 4}, seed=0, formats=("vqa", "pope", "coco-instances")
    )
    return folder


@pytest.fixture
def plan(world: Path, tmp_path: Path) -> Ablation:
    return Ablation(["vqa", "pope"], world, "test", tmp_path / "out", limit=6, masks=["zero"])


@pytest.fixture
def base(build: Build) -> ModelPredictor:
    return ModelPredictor(*build(), max_new_tokens={"short": 3})


def names(base: ModelPredictor, plan: Ablation) -> list[str]:
    images = [item.image for item in plan.items("vqa")]
    return [condition.name for condition in conditions(base, plan, images)]


def test_each_encoder_and_all_of_them_are_masked_in_every_way(
    base: ModelPredictor, plan: Ablation
) -> None:
    assert names(base, plan) == ["clip (zero)", "dinov2 (zero)", "clip + dinov2 (zero)"]
    found = names(base, replace(plan, masks=["mean", "shuffle"]))
    assert found == [
        f"{part} ({how})"
        for how in ("mean", "shuffle")
        for part in ("clip", "dinov2", "clip + dinov2")
    ]


def test_every_subset_on_request() -> None:
    assert len(study._chosen("abcd", subsets=True)) == 15
    assert study._chosen("abc", subsets=False) == [("a",), ("b",), ("c",), ("a", "b", "c")]
    assert study._chosen("a", subsets=False) == [("a",)]


def test_requests_that_make_no_sense(base: ModelPredictor, plan: Ablation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown mask 'zreo' \(did you mean 'zero'\?\)"):
        names(base, replace(plan, masks=["zreo"]))
    for part in ("objects", "tags"):
        given = replace(plan, **{part: tmp_path / "file.json"})
        with pytest.raises(UsageError, match=f"--{part}: the model reads no {part}"):
            names(base, given)


def test_objects_of_the_prompt_are_emptied_shuffled_and_made_true(
    build: Build, parts: Path, plan: Ablation
) -> None:
    comm = tiny.model_block(parts)["encoders"]
    detector = tiny_detector.block(parts)["encoders"][1]
    text = {"min_score": 0.0, "drop_objects": 0.0, "drop_text": 0.0}
    built = build(encoders=[*comm, {**detector, "fused": False}], perception_text=text)
    base = ModelPredictor(*built)
    assert names(base, plan)[-1] == "objects (empty)"
    items = plan.items("vqa")
    path = plan.data_dir / "annotations" / "instances_test.json"
    found = conditions(base, replace(plan, objects=path), [item.image for item in items])
    told = {c.how: c.predictor for c in found if c.part == "objects"}
    assert list(told) == ["empty", ORACLE, "shuffled"]
    image = items[0].image
    tables: dict[str, Any] = {how: predictor.perceived.objects for how, predictor in told.items()}
    own = json.loads(path.read_text())
    numbers = {entry["file_name"]: entry["id"] for entry in own["images"]}
    number = numbers[str(Path(image).relative_to(plan.data_dir / "images"))]
    count = sum(entry["image_id"] == number for entry in own["annotations"])
    assert len(tables[ORACLE][image]) == count > 0
    assert tables["empty"][image] == ()
    assert tables["shuffled"][image] != tables[ORACLE][image]
    assert len({base.fingerprint, *(p.fingerprint for p in told.values())}) == 4


def test_tags_of_the_prompt_are_emptied_shuffled_and_made_true(
    build: Build, parts: Path, plan: Ablation, tmp_path: Path
) -> None:
    model, processor = build(
        language={"checkpoint": str(parts / "t5")},
        prompt_style="plain",
        bridge={"name": "placeholder", "start_end": False, "tags": "soft"},
    )
    images = sorted({item.image for item in plan.items("vqa")})
    file = tmp_path / "tags.jsonl"
    lines = [{"image": image, "tags": [f"tag {n}"]} for n, image in enumerate(images)]
    file.write_text("\n".join(map(json.dumps, lines)))
    found = conditions(ModelPredictor(model, processor), replace(plan, tags=file), images)
    told: dict[str, Any] = {c.how: c.predictor for c in found if c.part == "tags"}
    assert set(told) == {"empty", ORACLE, "shuffled"}
    said = {how: predictor.perceived.tags.of(images[0]) for how, predictor in told.items()}
    assert said["empty"] == () and said[ORACLE] == ("tag 0",) and said["shuffled"] != ("tag 0",)


def test_verdicts_say_what_the_truth_would_do() -> None:
    whole, better = [0.0, 1.0] * 60, [1.0] * 120
    images = [str(number) for number in range(120)]
    found = adjusted({"x": utilities(whole, {"tags": better}, images, draws=200)})
    assert found["x"].parts["tags"].verdict == "harmful"
    assert study._in_other_words(found["x"]).parts["tags"].verdict == "the truth helps"


def test_a_run_scores_judges_and_continues(
    base: ModelPredictor, plan: Ablation, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = study.ablate(base, plan)
    groups = result.found["vqa"]["zero"]
    assert next(iter(groups)) == ALL and len(groups) > 1
    rows = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (
            plan.out / folder / "predictions-vqa.jsonl" for folder in ("whole", "clip (zero)")
        )
    ]
    whole, masked = (sum(row["score"] for row in part) / len(part) for part in rows)
    assert groups[ALL].score == pytest.approx(whole)
    assert groups[ALL].parts["clip"].masked_score == pytest.approx(masked)
    assert groups[ALL].n == len(rows[0]) and 0.0 <= result.blind["vqa"] <= 1.0

    def refuse(*args: Any, **options: Any) -> list[str]:
        raise AssertionError("asked again")

    monkeypatch.setattr(ModelPredictor, "answer", refuse)
    assert study.ablate(base, plan) == result


def test_the_command_writes_table_and_results(build: Build, world: Path, tmp_path: Path) -> None:
    model, processor = build()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    words = [tmp_path / "model", "-b", "pope", "--data", world, "--limit", "4"]
    result = invoke("ablate", *words, "--mask", "shuffle", "--json")
    assert result.exit_code == 0, result.stderr
    report = the_object(result)
    assert set(report["found"]["pope"]) == {"shuffle"}
    parts = report["found"]["pope"]["shuffle"][ALL]["parts"]
    assert set(parts) == {"clip", "dinov2", "clip + dinov2"}
    out = tmp_path / "ablation-test"
    record = json.loads((out / "results.json").read_text())
    assert record["found"] == report["found"]
    assert "| all items (n = " in (out / "table.md").read_text()
    assert invoke("ablate", *words, "--mask", "nothing").exit_code == 2
