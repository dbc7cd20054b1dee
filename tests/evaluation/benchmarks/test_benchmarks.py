"""Every row of the table on a real little world, official file names, and what bad input gets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.data.readers.prompts import CAPTION_PROMPT, REC_PROMPT
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks import BENCHMARKS, get_benchmark
from manyeyes.evaluation.benchmarks.contract import evenly, train_split
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item
from oracles import WORLD_BENCHMARKS, true_answer

NAMES = sorted(WORLD_BENCHMARKS)


def oracle(items: list[Item]) -> dict[str, Prediction]:
    return {item.id: true_answer(item) for item in items}


@pytest.mark.parametrize("name", NAMES)
def test_oracle_scores_the_maximum(name: str, world: Path) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.items(world, "val")
    result = benchmark.score(items, oracle(items))
    if name == "caption":  # one reference of five is not the consensus of all
        assert result.headline.value > 1.5
    else:
        assert result.headline.value == 100.0
    assert result.headline.metric == benchmark.metric
    assert result.parse_failures == 0
    assert result.n == len(items) == len(result.per_item)


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n in NAMES for v in BENCHMARKS[n].variants[1:]]
)
def test_oracle_under_the_other_variants(name: str, variant: str, world: Path) -> None:
    """LAVIS normalises the prediction but not ten equal answers, so "none" is not "none" there."""
    items = BENCHMARKS[name].items(world, "val")
    result = BENCHMARKS[name].score(items, oracle(items), variant=variant)
    none = sum(item.references[:1] == ("none",) for item in items)
    hidden = none if (name, variant) == ("vqa", "lavis") else 0
    assert result.headline.value == pytest.approx(100 * (len(items) - hidden) / len(items))
    assert result.variant == result.headline.variant == variant


@pytest.mark.parametrize("name", NAMES)
def test_empty_answers_score_the_minimum(name: str, world: Path) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.items(world, "val")
    variant = "strict" if name == "pope" else None
    result = benchmark.score(items, {item.id: "" for item in items}, variant=variant)
    assert result.headline.value == 0.0
    assert set(result.per_item.values()) == {0.0}
    assert result.parse_failures == (len(items) if name in ("rec", "pope", "vsr") else 0)


def test_empty_answers_mean_yes_under_the_official_pope_rule(world: Path) -> None:
    items = BENCHMARKS["pope"].items(world, "val")
    result = BENCHMARKS["pope"].score(items, {item.id: "" for item in items})
    assert result.to_json()["metrics"]["yes_ratio"] == 100.0
    assert result.headline.value == 50.0


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_does_not_matter(name: str, world: Path) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.items(world, "val")
    answers = oracle(items)
    wrong = dict.fromkeys(list(answers)[::3], "nothing")
    forwards = benchmark.score(items, {**answers, **wrong}).to_json()
    shuffled = dict(reversed(list({**answers, **wrong}.items())))
    backwards = benchmark.score(items[::-1], shuffled).to_json()
    assert backwards["metrics"] == pytest.approx(forwards["metrics"])
    for metric, interval in forwards["ci95"].items():
        assert backwards["ci95"][metric] == pytest.approx(interval)
    assert backwards["by"] == {k: pytest.approx(v) for k, v in forwards["by"].items()}


@pytest.mark.parametrize("name", NAMES)
def test_intervals_hold_the_value_and_breakdowns_cover_the_items(name: str, world: Path) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.items(world, "val")
    answers = oracle(items)
    answers.update(dict.fromkeys(list(answers)[::2], "nothing"))
    for score in benchmark.score(items, answers).scores:
        if score.metric == "distribution":  # χ² is no mean, and its bootstrap is biased
            continue
        if score.ci95 is None:  # nothing varies among images, and it is no share of right answers
            constant = {"precision": 100.0, "recall": 100.0, "f1": 100.0, "yes_ratio": 50.0}
            assert (name, score.value) == ("pope", constant[score.metric])
            continue
        assert score.ci95[0] - 1e-9 <= score.value <= score.ci95[1] + 1e-9
    groups = {breakdown for item in items for breakdown in item.groups}
    assert set(benchmark.score(items, answers).headline.by) == groups


@pytest.mark.parametrize("name", NAMES)
def test_missing_predictions_are_an_error_unless_allowed(name: str, world: Path) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.items(world, "val")
    answers = oracle(items)
    dropped = [item.id for item in items[:2]]
    for identity in dropped:
        del answers[identity]
    with pytest.raises(DataError, match=rf"{name}: no prediction for 2 ids: '{dropped[0]}'"):
        benchmark.score(items, answers)
    result = benchmark.score(items, answers, allow_missing=True)
    assert [result.per_item[identity] for identity in dropped] == [0.0, 0.0]
    assert any("2 missing" in note for note in result.notes)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_for_unknown_ids_are_refused(name: str, world: Path) -> None:
    items = BENCHMARKS[name].items(world, "val")
    with pytest.raises(DataError, match="unknown ids: 'nobody'"):
        BENCHMARKS[name].score(items, {**oracle(items), "nobody": "yes"})


@pytest.mark.parametrize("name", NAMES)
def test_baseline_is_counted_on_the_training_split(name: str, world: Path) -> None:
    benchmark = BENCHMARKS[name]
    items = benchmark.items(world, "val")
    constant = benchmark.baseline(items, world, "val")
    assert constant.source == "train split"
    result = benchmark.score(items, constant.answers)
    assert 0 <= result.headline.value < benchmark.score(items, oracle(items)).headline.value
    assert result.parse_failures == 0
    training = benchmark.items(world, "train")
    assert benchmark.baseline(training, world, "train").source == "evaluated split"


def test_majority_answer_depends_on_the_question_type(world: Path) -> None:
    items = BENCHMARKS["vqa"].items(world, "val")
    constant = BENCHMARKS["vqa"].baseline(items, world, "val")
    by_type = {(item.groups["question_type"], constant.answers[item.id]) for item in items}
    assert len(by_type) == len({kind for kind, _ in by_type})
    assert len({answer for _, answer in by_type}) > 1


@pytest.mark.parametrize("name", NAMES)
def test_limit_keeps_evenly_spaced_items(name: str, world: Path) -> None:
    whole = BENCHMARKS[name].items(world, "val")
    part = BENCHMARKS[name].items(world, "val", limit=5)
    if BENCHMARKS[name].drawn:
        assert part == [item for item in whole if item in part]  # in their order
    else:
        assert part == evenly(whole, 5)
    assert len(part) == 5
    assert len({item.cluster for item in part}) > 1


def test_prompts_are_those_of_training_and_can_be_replaced(world: Path) -> None:
    assert BENCHMARKS["caption"].prompt == CAPTION_PROMPT
    assert BENCHMARKS["rec"].prompt == REC_PROMPT
    prompt = "{question}\nAnswer the question using a single word or phrase."
    item = BENCHMARKS["vqa"].items(world, "val", limit=1, prompt=prompt)[0]
    assert item.prompt.endswith("?\nAnswer the question using a single word or phrase.")
    with pytest.raises(UsageError, match=r"must hold \{question\}"):
        BENCHMARKS["vqa"].items(world, "val", prompt="Answer.")


def test_pope_says_how_many_questions_each_set_has(world: Path) -> None:
    items = BENCHMARKS["pope"].items(world, "val")
    result = BENCHMARKS["pope"].score(items, oracle(items))
    sizes = {name: sum(i.groups["set"] == name for i in items) for name in ("random", "popular")}
    assert f"random {sizes['random']}, popular {sizes['popular']}" in result.notes[0]
    assert set(result.to_json()["by"]["set.f1"]) == {"random", "popular", "adversarial"}


def test_rec_counts_unparsable_answers_as_wrong(world: Path) -> None:
    items = BENCHMARKS["rec"].items(world, "val")
    answers = oracle(items)
    first, second = items[0].id, items[1].id
    answers[first] = f"{answers[first]} {answers[first]}"
    answers[second] = "on the left"
    result = BENCHMARKS["rec"].score(items, answers, variant="shikra")
    assert result.parse_failures == 2
    assert result.per_item[first] == result.per_item[second] == 0.0
    assert result.headline.value == pytest.approx(100 * (len(items) - 2) / len(items))


@pytest.mark.parametrize("name", NAMES)
def test_one_item_has_no_interval_and_double_ids_are_refused(name: str, world: Path) -> None:
    items = BENCHMARKS[name].items(world, "val", limit=1)
    result = BENCHMARKS[name].score(items, oracle(items))
    assert result.to_json()["ci95"] == {}
    assert all(math.isfinite(score.value) for score in result.scores)
    with pytest.raises(DataError, match=f"{name}: the id .* occurs twice"):
        BENCHMARKS[name].score(items * 2, oracle(items))
    with pytest.raises(UsageError, match="no items"):
        BENCHMARKS[name].score([], {})


def test_result_as_json_has_the_documented_keys(world: Path) -> None:
    items = BENCHMARKS["vqa"].items(world, "val")
    result = json.loads(json.dumps(BENCHMARKS["vqa"].score(items, oracle(items)).to_json()))
    assert list(result) == [
        *("benchmark", "variant", "n", "metrics", "counted", "ci95", "by"),
        *("parse_failures", "notes"),
    ]
    assert (result["metrics"], result["counted"]) == ({"accuracy": 100.0}, {"accuracy": len(items)})
    images = len({item.cluster for item in items})
    assert result["ci95"] == {"accuracy": [pytest.approx(100 * 0.025 ** (1 / images)), 100.0]}
    assert set(result["by"]) == {"question_type", "answer_type"}


def write_official_vqa(folder: Path) -> None:
    """VQAv2's own file names, image names and layout."""
    answers = [{"answer": "red", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    annotation = {
        "question_id": 1,
        "image_id": 42,
        "question_type": "what",
        "answer_type": "other",
        "multiple_choice_answer": "red",
        "answers": answers,
    }
    question = {"question_id": 1, "image_id": 42, "question": "What colour?"}
    files: Mapping[str, Mapping[str, Any]] = {
        "v2_OpenEnded_mscoco_val2014_questions.json": {
            "data_subtype": "val2014",
            "questions": [question],
        },
        "v2_mscoco_val2014_annotations.json": {"annotations": [annotation]},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "val2014").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "val2014" / "COCO_val2014_000000000042.jpg")


def test_official_vqa_names_are_found_and_one_item_has_no_interval(tmp_path: Path) -> None:
    write_official_vqa(tmp_path)
    (item,) = BENCHMARKS["vqa"].items(tmp_path, "val2014")
    assert item.references == ("red",) * 10
    assert Path(item.image).name == "COCO_val2014_000000000042.jpg"
    result = BENCHMARKS["vqa"].score([item], {"1": "Red"})
    assert (result.headline.value, result.headline.ci95) == (0.0, None)
    assert train_split("val2014") == "train2014"


def test_one_pope_set_alone_is_scored(tmp_path: Path) -> None:
    row = {"question_id": 1, "image": "a.png", "text": "Is there a dog?", "label": "yes"}
    rows = [row, {**row, "question_id": 2, "text": "Is there a cat?", "label": "no"}]
    (tmp_path / "coco_pope_random.json").write_text("\n".join(json.dumps(r) for r in rows))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    items = BENCHMARKS["pope"].items(tmp_path, "val")
    assert [item.id for item in items] == ["1", "2"]
    assert {item.groups["set"] for item in items} == {"random"}
    assert BENCHMARKS["pope"].score(items, oracle(items)).headline.value == 100.0
    baseline = BENCHMARKS["pope"].baseline(items, tmp_path, "val")
    assert baseline.source == "evaluated split"
    assert set(baseline.answers.values()) == {"yes"}


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_are_named_with_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no .* for split 'val'; expected one of: .*json"):
        BENCHMARKS[name].items(tmp_path, "val")
    with pytest.raises(DataError, match="no such data folder"):
        BENCHMARKS[name].items(tmp_path / "nowhere", "val")


@pytest.mark.parametrize("name", NAMES)
def test_the_wrong_file_is_named(name: str, tmp_path: Path) -> None:
    for pattern in BENCHMARKS[name].files:
        path = tmp_path / pattern.format(split="val")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"something": "else"}))
    with pytest.raises(DataError, match=rf"{tmp_path}.*json"):
        BENCHMARKS[name].items(tmp_path, "val")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write_official_vqa(tmp_path)
    next((tmp_path / "val2014").iterdir()).unlink()
    with pytest.raises(DataError, match=r"no such image file: .*000042\.jpg"):
        BENCHMARKS["vqa"].items(tmp_path, "val2014")


def test_unknown_names_get_the_nearest(world: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'caption'"):
        get_benchmark("captions")
    items = BENCHMARKS["vqa"].items(world, "val", limit=1)
    with pytest.raises(UsageError, match="did you mean 'lavis'"):
        BENCHMARKS["vqa"].score(items, oracle(items), variant="lavi")
    with pytest.raises(UsageError, match="at least 1"):
        BENCHMARKS["vqa"].items(world, "val", limit=0)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_row_describes_itself(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name
    assert benchmark.description and benchmark.metric and benchmark.variants
    assert benchmark.files and benchmark.result_format


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_row_names_a_folder_and_predictions_that_are_not_there(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such data folder"):
        BENCHMARKS[name].items(tmp_path / "nowhere", "val")
    with pytest.raises(DataError, match=r"answers\.json: no such file"):
        BENCHMARKS[name].load(tmp_path / "answers.json")
