"""Files of training as benchmarks: what is asked, and what oracles and empty answers get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.tables.table import result_rows
from manyeyes.inference.questions import Item
from manyeyes.records import Turn

OWN = ("boxes", "conversations", "question_answer")
LONG = "a red circle left of a large blue square"


def talk(*turns: str, **more: Any) -> dict[str, Any]:
    said = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(turns)]
    return {"image": "a.png", "conversations": said, **more}


ROWS = [
    talk("<image>\nIs there a cat?", "yes", "How many?", "3", id="two", room="kitchen"),
    talk("<image>\nWhere is it?", "<boxes>", id="one box", boxes=[[[1, 2, 11, 12]]]),
    talk("<image>\nWhere are they?", "<boxes>", id="boxes", boxes=[[[0, 0, 4, 4], [8, 8, 16, 16]]]),
    talk("<image>\nDescribe it.", LONG, id="long", references=[LONG, "another text"]),
    talk("<image>\n<image>\nWhat differs?", "the hat", id="pair", image=["a.png", "b.png"]),
    talk("What is 2 + 2?", "4", id="text", image=None),
    talk("Colour of <image>?", "red", id="exact", metric="anls", room="bath"),
    talk("<image>\nWhat is in <boxes>?", "cat", id="in", boxes=[[[1, 2, 3, 4]]], room="bath"),
    talk("<image>\nIs it a dog?", "no", id="dog", room="kitchen"),
]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 16)).save(folder / name)
    (folder / "test.json").write_text(json.dumps(ROWS))
    return folder


def items(own: Path, benchmark: str) -> dict[str, Item]:
    return {item.id: item for item in BENCHMARKS[benchmark].items(own, "test")}


def truth(item: Item) -> Prediction:
    boxes = item.meta["boxes"]
    return [list(box) for box in boxes] if boxes else item.references[0]


def test_every_answer_is_asked_by_the_benchmark_of_its_metric(own: Path) -> None:
    found = {name: {i.id: i.meta["metric"] for i in items(own, name).values()} for name in OWN}
    assert found == {
        "boxes": {"one box": "iou", "boxes": "iou"},
        "conversations": {"long": "rouge"},
        "question_answer": {
            "two#1": "yes_no",
            "two#2": "number",
            "pair": "exact",
            "exact": "anls",
            "in": "exact",
            "dog": "yes_no",
        },
    }


@pytest.mark.parametrize("name", OWN)
def test_oracle_and_empty_answers(name: str, own: Path) -> None:
    benchmark, asked = BENCHMARKS[name], list(items(own, name).values())
    best = benchmark.score(asked, {item.id: truth(item) for item in asked})
    assert best.headline.value == pytest.approx(100.0)
    assert best.headline.metric == benchmark.metric
    assert best.parse_failures == 0
    empty = benchmark.score(asked, {item.id: "" for item in asked})
    assert empty.headline.value == 0.0
    shuffled: Mapping[str, Prediction] = {
        item.id: truth(other) for item, other in zip(asked, asked[1:] + asked[:1], strict=True)
    }
    if len(asked) > 1:
        assert benchmark.score(asked, shuffled).headline.value < 100.0


def test_images_and_earlier_turns_stand_as_they_are_written(own: Path) -> None:
    found = items(own, "question_answer")
    pair, later, inside = found["pair"], found["two#2"], found["exact"]
    assert pair.images == (str(own / "a.png"), str(own / "b.png"))
    assert [turn.text for turn in pair.turns(shown=True)] == ["<image>\n<image>\nWhat differs?"]
    assert [turn.text for turn in pair.turns(shown=False)] == ["What differs?"]
    before = (Turn("user", "<image>\nIs there a cat?"), Turn("assistant", "yes"))
    assert (later.before, later.prompt) == (before, "How many?")
    assert later.turns(shown=True) == [*before, Turn("user", "How many?")]
    assert later.turns(shown=False)[0].text == "Is there a cat?"
    assert inside.turns(shown=True)[0].text == "Colour of <image>?"
    assert found["in"].boxes == (((1, 2, 3, 4),),)


def test_keys_of_rows_with_few_values_are_groups(own: Path) -> None:
    found = items(own, "question_answer")
    assert found["two#1"].groups["room"] == "kitchen"
    assert "room" not in found["pair"].groups
    asked = list(found.values())
    result = BENCHMARKS["question_answer"].score(
        asked, {item.id: "yes" if item.id == "two#1" else "" for item in asked}
    )
    by = result.headline.by
    assert by["room"] == {"bath": 0.0, "kitchen": pytest.approx(100 / 3)}
    assert by["metric"]["yes_no"] == 50.0
    assert {score.metric: score.value for score in result.scores}["f1"] == 100.0


def test_every_figure_stands_beside_the_questions_behind_it(own: Path) -> None:
    """Six questions, two of them yes/no, which alone have an F1."""
    asked = list(items(own, "question_answer").values())
    result = BENCHMARKS["question_answer"].score(asked, {item.id: "yes" for item in asked})
    arm = result.to_json()
    assert arm["counted"] == {
        "accuracy": 6, "f1": 2, "precision": 2, "recall": 2, "yes_ratio": 2
    }  # fmt: skip
    entry = {
        "metric": "accuracy",
        "variant": "auto",
        "n": 6,
        "model": arm,
        "majority": arm,
        "text_only": None,
    }
    rows = result_rows({"benchmarks": {"question_answer": entry}}, details=True)
    assert {row[1].split()[0]: row[2] for row in rows}["f1"] == "2"
    older = {**entry, "model": {key: value for key, value in arm.items() if key != "counted"}}
    assert next(result_rows({"benchmarks": {"question_answer": older}}))[2] == "6"


def test_one_metric_for_all_is_a_variant(own: Path) -> None:
    asked = list(items(own, "question_answer").values())
    answers = {item.id: f"I say {item.references[0]}" for item in asked}
    benchmark = BENCHMARKS["question_answer"]
    assert benchmark.score(asked, answers, variant="contains").headline.value == 100.0
    assert benchmark.score(asked, answers, variant="exact").headline.value == 0.0


def test_box_f1_by_hand(own: Path) -> None:
    """One of two boxes found, and one too many: 2 · 1 / (3 + 2)."""
    asked = list(items(own, "boxes").values())
    answers = {
        "one box": [1, 2, 11, 7],  # IoU 0.5 counts
        "boxes": [[0, 0, 4, 4], [8, 8, 11, 16], [0, 10, 5, 15]],
    }
    result = BENCHMARKS["boxes"].score(asked, answers)
    assert result.per_item == {"one box": 1.0, "boxes": pytest.approx(2 / 5)}
    values = {score.metric: score.value for score in result.scores}
    assert values["accuracy"] == 50.0
    # overlaps 0.5, and (1 + 3/8) over three boxes
    assert values["mean_iou"] == pytest.approx(100 * (0.5 + 1.375 / 3) / 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (talk("<image>\nA?", "b", metric="exakt"), r"unknown metric 'exakt'.*'exact'"),
        (talk("<image>\nA?", "b", "C?", "d", references=["b"]), "2 lists of texts"),
        (talk("A?", "b", image=None), "holds no questions for 'question_answer'"),
    ],
)
def test_rows_that_say_the_impossible(row: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match=message):
        BENCHMARKS["question_answer"].read_files([path])


def test_cider_is_the_headline_where_rows_say_so(own: Path, tmp_path: Path) -> None:
    rows = [
        talk("<image>\nDescribe.", text, id=text[:1], metric="cider")
        for text in (LONG, "six green triangles on one yellow line")
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    asked = BENCHMARKS["conversations"].read_files([tmp_path / "rows.json"])
    result = BENCHMARKS["conversations"].score(asked, {i.id: i.references[0] for i in asked})
    assert (result.headline.metric, result.headline.value) == ("CIDEr", pytest.approx(10.0))


def test_the_worlds_own_files_are_asked_too(world: Path) -> None:
    asked = BENCHMARKS["question_answer"].items(world, "val")
    result = BENCHMARKS["question_answer"].score(asked, {item.id: truth(item) for item in asked})
    assert result.headline.value == pytest.approx(100.0)
    constant = BENCHMARKS["question_answer"].baseline(asked, world, "val")
    assert constant.source == "train split"
    score = BENCHMARKS["question_answer"].score(asked, constant.answers).headline.value
    assert 0.0 < score < 100.0
