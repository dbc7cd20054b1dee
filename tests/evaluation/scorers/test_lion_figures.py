"""LION's boxes, published figures and official decoding against our scorers (LION §6, §7, §10)."""

from __future__ import annotations

import pytest

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.errors import UsageError
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.scorers.pope import pope_answers
from manyeyes.inference.decoding import GREEDY, decoding_preset
from manyeyes.inference.questions import Item


@pytest.mark.parametrize(
    "text",
    [
        "Answer: [0.440,0.060,0.650,0.367]",
        "Answer:[0.44, 0.06, 0.65, 0.367]",
        "[ 0.440 , 0.060 , 0.650 , 0.367 ].",
    ],
)
def test_lion_check_18_boxes_are_read_in_the_original_frame(text: str) -> None:
    ((box,),) = parse_boxes(text, style="lion", width=640, height=427)
    assert box == pytest.approx((281.6, 25.62, 416.0, 156.709), abs=0.01)


def test_lion_check_18_other_forms() -> None:
    ((box,),) = parse_boxes("Answer:[0.533,0.120,0.804,1.0]", style="lion", width=100, height=50)
    assert box == pytest.approx((53.3, 6.0, 80.4, 50.0))
    for wrong in ("[0.1,0.2,0.3]", "[0.1,0.2,0.3,0.4,0.5]", "no box"):
        assert parse_boxes(wrong, style="lion", width=100, height=50) == []


@pytest.mark.parametrize(
    ("precision", "recall", "f1"),
    [(97.12, 81.00, 88.33), (91.69, 80.87, 85.94), (88.69, 81.07, 84.71)],
)
def test_lion_check_20_pope(precision: float, recall: float, f1: float) -> None:
    """100 000 questions, half of them about what is there, answered with these shares."""
    there = 50_000
    found = round(there * recall / 100)
    wrong = round(found * (100 / precision - 1))
    said = ["yes"] * found + ["no"] * (there - found) + ["yes"] * wrong + ["no"] * (there - wrong)
    metrics = pope_answers(said, ["yes"] * there + ["no"] * there).metrics()
    assert 100 * metrics.precision == pytest.approx(precision, abs=0.01)
    assert 100 * metrics.f1 == pytest.approx(f1, abs=0.011)


AVERAGES = [
    ((57.89, 56.07, 58.40, 46.38, 45.29, 47.50, 64.74, 63.56), 54.98),
    ((58.54, 56.41, 59.36, 45.93, 45.73, 47.89, 66.12, 64.69), 55.58),
    ((89.73, 92.29, 84.82, 83.60, 88.72, 77.34, 85.69, 85.63), 85.98),
    ((89.80, 93.02, 85.57, 83.95, 89.22, 78.06, 85.52, 85.74), 86.36),
]
"""Accuracies of the eight REC sets and their average, as printed."""


def expression(place: int, number: int = 0) -> Item:
    """An expression of one of the sets, on an image of its own."""
    return Item(
        id=f"{place}/{number}",
        image="x.png",
        prompt="?",
        references=(),
        cluster=f"{place}/{number}",
        answer="boxes",
        target=(20.0, 10.0, 60.0, 30.0),
        size=(200, 100),
        groups={"set": str(place)},
    )


@pytest.mark.parametrize(("accuracies", "average"), AVERAGES)
def test_lion_check_20_rec(accuracies: tuple[float, ...], average: float) -> None:
    """The mean of every benchmark, over the shares of eight sets of one size."""
    items = [expression(place) for place in range(8)]
    score = mean_score("accuracy", [accuracy / 100 for accuracy in accuracies], items)
    assert score.value == pytest.approx(average, abs=0.0051)
    assert list(score.by["set"].values()) == pytest.approx(accuracies)


def test_lion_check_20_rec_from_boxes_to_the_average() -> None:
    """Eight sets of 10,000 expressions, so many of them answered right, as one benchmark."""
    accuracies, average = AVERAGES[0]
    target, elsewhere = "[0.100,0.100,0.300,0.300]", "[0.600,0.600,0.900,0.900]"
    items, answers = [], {}
    for place, accuracy in enumerate(accuracies):
        for number in range(10_000):
            item = expression(place, number)
            items.append(item)
            answers[item.id] = target if number < round(100 * accuracy) else elsewhere
    score = get_benchmark("rec").score(items, answers, box_style="lion").headline
    assert score.value == pytest.approx(average, abs=0.0051)
    assert list(score.by["set"].values()) == pytest.approx(accuracies)


def test_the_official_decoding_is_a_preset() -> None:
    official = decoding_preset("lion-official")
    assert official.max_new_tokens == 256
    assert official.arguments["num_beams"] == 5
    assert official.arguments["repetition_penalty"] == 1.5
    assert decoding_preset("greedy") is GREEDY
    with pytest.raises(UsageError, match="did you mean 'lion-official'"):
        decoding_preset("lion-oficial")
