"""GQA: the official metrics on a small hand-made split, its files in chunks, and broken ones."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.answers.score import Scoring, score_file
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.benchmarks.files import Source
from manyeyes.evaluation.contract import BenchmarkResult
from manyeyes.evaluation.scorers.gqa import belongs, distribution, grounding, reasoning_steps
from vqa_files import write_json


def question(text: str, answer: str, **changes: Any) -> dict[str, Any]:
    """One entry of a questions file."""
    return {
        "question": text,
        "imageId": "2354786",
        "answer": answer,
        "fullAnswer": f"It is {answer}.",
        "isBalanced": True,
        "groups": {"global": "color", "local": "06-sky_color"},
        "entailed": [],
        "equivalent": [],
        "types": {"structural": "query", "semantic": "attr", "detailed": "color"},
        "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
        "semantic": [
            {"operation": "select", "argument": "sky (12)", "dependencies": []},
            {"operation": "query", "argument": "color", "dependencies": [0]},
        ],
        "semanticStr": "select: sky (12)->query: color [0]",
        **changes,
    }


VERIFY = {"structural": "verify", "semantic": "obj", "detailed": "exist"}
EXIST = [{"operation": "exist", "argument": "?", "dependencies": []}]
QUESTIONS: dict[str, dict[str, Any]] = {
    "1": question("What color is the sky?", "blue", entailed=["1", "2", "3"]),
    "2": question(
        "Is it blue?",
        "yes",
        types=VERIFY,
        semantic=EXIST,
        groups={"global": None},
        entailed=["2", "3"],
    ),
    "3": question("Is the sky blue?", "yes", isBalanced=False, types=VERIFY),
    "4": question("What color is the grass?", "green", imageId="7"),
    "5": question(
        "What is common?",
        "color",
        imageId="7",
        types={"structural": "compare", "semantic": "attr", "detailed": "twoCommon"},
        groups={"global": "property"},
    ),
}
CHOICES = {
    key: {"valid": ["blue", "green", "red"], "plausible": ["blue", "green"]}
    for key in ("1", "4", "5")
} | {"2": {"valid": ["yes", "no"], "plausible": ["yes", "no"]}}
RIGHT = {key: entry["answer"] for key, entry in QUESTIONS.items()}
HALF = {"1": "blue", "2": "no", "3": "yes", "4": "red", "5": "shape"}


def predictions(texts: dict[str, str]) -> list[dict[str, str]]:
    return [{"questionId": key, "prediction": text} for key, text in texts.items()]


def run(
    folder: Path,
    answers: Any,
    *,
    questions: Any = QUESTIONS,
    others: tuple[Any, ...] = (CHOICES,),
    variant: str | None = None,
    missing: bool = False,
) -> BenchmarkResult:
    files = [write_json(folder / "val_all_questions.json", questions)]
    files += [write_json(folder / f"other{n}.json", other) for n, other in enumerate(others)]
    if isinstance(answers, dict):
        answers = predictions(answers)
    path = write_json(folder / "predictions.json", answers)
    return score_file(Scoring("gqa", files, variant=variant, allow_missing=missing), path).result


def test_all_metrics_by_hand(tmp_path: Path) -> None:
    result = run(tmp_path, HALF)
    found = result.to_json()
    assert found["metrics"] == pytest.approx(
        {
            "accuracy": 25.0,  # 1 of the balanced 1, 2, 4, 5
            "binary": 0.0,  # 2 and 5
            "open": 50.0,  # 1 and 4
            "consistency": 50.0,  # 1 is right and entails 2 (wrong) and 3 (right)
            "validity": 100.0,  # shape is valid where something common is asked for
            "plausibility": 75.0,  # red is not plausible
            # color: blue 1 of 1, green 0 of 1: χ² = 1, n = 2; property: χ² = 1, n = 1
            "distribution": (1 * 2 + 1 * 1) / 3 / 100,
        }
    )
    assert result.n == 4 and set(result.per_item) == {"1", "2", "4", "5"}
    assert found["by"] == {
        "structural": {"compare": 0.0, "query": 50.0, "verify": 0.0},
        "semantic": {"attribute": pytest.approx(100 / 3), "object": 0.0},
        "words": {"3": 0.0, "5": 50.0},
        "steps": {"0": 0.0, "2": pytest.approx(100 / 3)},
    }
    assert "distribution" not in found["ci95"] and result.notes == ()


def test_the_order_of_numbers_is_theirs(tmp_path: Path) -> None:
    long = {**QUESTIONS, "6": question("What " + "very " * 8 + "color?", "blue")}
    choices = {**CHOICES, "6": CHOICES["1"]}
    result = run(tmp_path, {**RIGHT, "6": "blue"}, questions=long, others=(choices,))
    assert list(result.headline.by["words"]) == ["3", "5", "10"]


def test_a_perfect_oracle(tmp_path: Path) -> None:
    metrics = run(tmp_path, RIGHT).to_json()["metrics"]
    assert metrics.pop("distribution") == 0.0
    assert metrics.pop("validity") == metrics.pop("plausibility") == 100.0
    assert set(metrics.values()) == {100.0}


@pytest.mark.parametrize(
    ("text", "official", "lavis", "lmms"),
    [("blue", 1, 1, 1), ("Blue", 0, 0, 1), ("blue.", 0, 1, 1), ("blue ", 0, 0, 0)],
)
def test_variants(text: str, official: int, lavis: int, lmms: int, tmp_path: Path) -> None:
    for variant, expected in (("official", official), ("lavis", lavis), ("lmms", lmms)):
        result = run(tmp_path, {**RIGHT, "1": text}, variant=variant)
        assert (result.per_item["1"], result.variant) == (expected, variant)


def test_consistency_needs_answers_to_the_entailed_questions(tmp_path: Path) -> None:
    balanced = {key: text for key, text in HALF.items() if key != "3"}
    result = run(tmp_path, balanced)
    assert "consistency" not in result.to_json()["metrics"]
    assert "consistency left out: 1 entailed questions have no prediction" in result.notes
    only = {key: entry for key, entry in QUESTIONS.items() if key != "3"}
    assert "consistency" not in run(tmp_path, balanced, questions=only).to_json()["metrics"]
    none_right = dict.fromkeys(RIGHT, "wrong")
    assert run(tmp_path, none_right).to_json()["metrics"]["consistency"] == 0.0


def test_missing_predictions_of_balanced_questions(tmp_path: Path) -> None:
    answers = {key: RIGHT[key] for key in ("1", "2", "3")}
    with pytest.raises(DataError, match="no prediction for 2 ids: '4', '5'"):
        run(tmp_path, answers)
    result = run(tmp_path, answers, missing=True)
    assert result.headline.value == 50.0
    assert "2 missing predictions count as wrong" in result.notes


def test_without_choices_their_metrics_are_left_out(tmp_path: Path) -> None:
    result = run(tmp_path, HALF, others=())
    assert not {"validity", "plausibility"} & set(result.to_json()["metrics"])
    assert "validity and plausibility left out: no file of choices" in result.notes


def test_folders_of_chunks(tmp_path: Path) -> None:
    folder = tmp_path / "val_all_questions"
    for number, key in enumerate(QUESTIONS):
        chunk = folder / f"val_all_questions_{number}.json"
        write_json(chunk, {key: QUESTIONS[key]})
    choices = write_json(tmp_path / "val_choices.json", CHOICES)
    items = BENCHMARKS["gqa"].read_files([choices, folder])
    path = write_json(tmp_path / "p.json", predictions(HALF))
    whole = run(tmp_path, HALF)
    assert score_file(Scoring("gqa", [choices, folder]), path).result == whole
    (tmp_path / "val_all_questions.json").unlink()
    assert len(BENCHMARKS["gqa"].locate(Source(tmp_path, "val"))) == len(QUESTIONS) + 1
    assert [item.id for item in items] == list(QUESTIONS)
    write_json(folder / "val_all_questions_9.json", {"1": QUESTIONS["1"]})
    with pytest.raises(DataError, match=r"_9\.json, entry 1: 1: '1' is in another"):
        BENCHMARKS["gqa"].read_files([folder])


SCENES = {
    image: {
        "width": 100,
        "height": 200,
        "objects": {
            "11": {"name": "sky", "x": 0, "y": 0, "w": 100, "h": 100},
            "12": {"name": "dog", "x": 50, "y": 100, "w": 50, "h": 100},
        },
    }
    for image in ("2354786", "7")
}


def grounded(change: dict[str, Any]) -> dict[str, Any]:
    """Questions with annotated objects: the sky in every one, and what ``change`` says."""
    found = copy.deepcopy(QUESTIONS)
    for entry in found.values():
        entry["annotations"] = {"question": {"4": "11"}, "answer": {}, "fullAnswer": {}, **change}
    return found


def test_grounding_is_attention_on_the_annotated_objects(tmp_path: Path) -> None:
    attention = [[0.1, 0.2], [0.3, 0.4]]  # left above, left below, right above, right below
    rows = [{**row, "attention": attention} for row in predictions(RIGHT)]
    scenes = (CHOICES, SCENES)
    result = run(tmp_path, rows, questions=grounded({}), others=scenes)
    assert result.to_json()["metrics"]["grounding"] == pytest.approx(40.0)
    both = grounded({"fullAnswer": {"1": "12", "2:4": "11,12"}})
    result = run(tmp_path, rows, questions=both, others=scenes)
    assert result.to_json()["metrics"]["grounding"] == pytest.approx(2 * 40.0 + 2 * 40.0)
    result = run(tmp_path, rows, questions=both)
    assert "grounding" not in result.to_json()["metrics"]
    assert any(note.startswith("grounding left out") for note in result.notes)


def test_grounding_against_the_sum_over_cells() -> None:
    rng = random.Random(0)
    attention = np.array([[rng.random() for _ in range(7)] for _ in range(7)])
    regions = []
    for _ in range(4):
        x, y = sorted((rng.random(), rng.random())), sorted((rng.random(), rng.random()))
        regions.append((x[0], y[0], x[1], y[1]))
    expected = 0.0
    for x1, y1, x2, y2 in regions:
        for i in range(7):
            for j in range(7):
                across = max(0.0, min(x2, (i + 1) / 7) - max(x1, i / 7))
                down = max(0.0, min(y2, (j + 1) / 7) - max(y1, j / 7))
                expected += attention[i, j] * across * down * 49
    assert grounding(attention, regions) == pytest.approx(expected)
    assert grounding(attention, [(0.0, 0.0, 1.0, 1.0)]) == pytest.approx(attention.sum())
    assert grounding(attention, []) == 0.0


def test_distribution_follows_its_definition() -> None:
    gold = ["a", "a", "b", "c", "c", "c"]
    said = ["a", "b", "b", "z", "c", "a"]
    groups = ["g", "g", "g", "h", "h", None]
    # g: a 1 of 2, b 2 of 1: 1/2 + 1 = 1.5, n = 3; h: c 1 of 2: 1/2, n = 2; z does not count
    assert distribution(gold, said, groups) == pytest.approx((1.5 * 3 + 0.5 * 2) / 5 / 100)
    assert distribution(gold, gold, groups) == 0.0
    assert distribution(["a"], ["b"], [None]) == 0.0


def test_steps_and_common_answers() -> None:
    program = [
        {"operation": "select", "argument": "sky"},
        {"operation": "relate", "argument": "table,on,s (5)"},
        {"operation": "query", "argument": "name"},
        {"operation": "choose name", "argument": "cup|glass"},
        {"operation": "exist", "argument": "?"},
        {"operation": "query", "argument": "color"},
    ]
    assert reasoning_steps(program) == 3
    assert belongs("red", {"red"}, "color") and not belongs("color", {"red"}, "color")
    assert belongs("color", {"red"}, "twoCommon") and not belongs("red", {"red"}, "twoCommon")


def without(key: str) -> dict[str, Any]:
    return {"1": {k: v for k, v in QUESTIONS["1"].items() if k != key}}


@pytest.mark.parametrize(
    ("questions", "others", "message"),
    [
        (without("answer"), (), r"questions\.json, entry 1: 1\.answer: is missing"),
        (without("types"), (), r"1\.types: is missing; expected an object"),
        (without("isBalanced"), (), r"1\.isBalanced: is missing"),
        ({"1": question("Q?", "a", isBalanced="no")}, (), "expected true or false, got 'no'"),
        ({"1": question("Q?", "a", types={"structural": "query"})}, (), r"1\.types\.semantic: is"),
        ({"1": question("Q?", "a", semantic=["x"])}, (), r"1\.semantic\[0\]: expected an object"),
        ({"1": question("Q?", "a"), "2": 3}, (), r"entry 2: 2: expected an object"),
        ({"1": {"something": "else"}}, (), "is none of GQA's files"),
        ([QUESTIONS["1"]], (), "expected one of GQA's files, an object by id"),
        (QUESTIONS, ({"1": CHOICES["1"]},), r"2: is not in the file of choices"),
        (QUESTIONS, ({"9": SCENES["7"]},), r"1\.imageId: is not in the file of scene graphs"),
        (
            grounded({"question": {"0": "99"}}),
            (SCENES,),
            r"1\.annotations\.question: names '99', no object with a box",
        ),
    ],
)
def test_broken_files_are_named(
    questions: Any, others: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, HALF, questions=questions, others=others)


def test_files_without_questions_are_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "choices.json", CHOICES)
    with pytest.raises(UsageError, match="no file of GQA questions among"):
        BENCHMARKS["gqa"].read_files([path])
    only = {"3": QUESTIONS["3"]}
    with pytest.raises(DataError, match="none of the questions is balanced"):
        run(tmp_path, {"3": "yes"}, questions=only, others=())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": "1", "prediction": "x"}, r"questionId: is missing.*'question_id'"),
        ({"questionId": "1"}, "prediction: is missing"),
        ({"questionId": "1", "prediction": "x", "attention": [[1, 2]]}, "square list of numbers"),
        ({"questionId": "1", "prediction": "x", "attention": [[None]]}, "square list of numbers"),
    ],
)
def test_broken_predictions_are_named(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, [row])


def test_predictions_by_id(tmp_path: Path) -> None:
    files = [write_json(tmp_path / "q.json", QUESTIONS), write_json(tmp_path / "c.json", CHOICES)]
    path = write_json(tmp_path / "p.json", HALF)
    assert score_file(Scoring("gqa", files), path).result == run(tmp_path, HALF)
