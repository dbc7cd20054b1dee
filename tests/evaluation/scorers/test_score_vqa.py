"""VQA accuracy against the vectors of the original code, in all four variants."""

from __future__ import annotations

import time

import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.scorers.vqa import (
    VQA_VARIANTS,
    normalise_words,
    strip_punctuation,
    vqa_accuracy,
)
from manyeyes.inference.questions import Item


def pairs(*counted: tuple[str, int]) -> list[str]:
    return [text for text, count in counted for _ in range(count)]


VECTORS = [
    ("yes", pairs(("yes", 10)), (100, 100, 100, 100)),
    ("Yes", pairs(("yes", 10)), (0, 100, 100, 100)),
    ("yes!", pairs(("yes", 10)), (0, 100, 100, 100)),
    ("two", pairs(("2", 2), ("two", 1), ("three", 7)), (90, 60, 90, 90)),
    ("a dog", pairs(("dog", 3), ("the dog", 3), ("puppy", 4)), (100, 90, 100, 100)),
    ("2", pairs(("two", 3), ("2", 4), ("3", 3)), (100, 100, 100, 100)),
    ("U.S.A.", pairs(("usa", 3), ("us", 7)), (90, 90, 90, 90)),
    ("cat", pairs(("cat", 1), ("dog", 9)), (30, 30, 30, 30)),
    ("cat", pairs(("cat", 2), ("dog", 8)), (60, 60, 60, 60)),
    ("cat", pairs(("cat", 3), ("dog", 7)), (90, 90, 90, 90)),
    ("cat", pairs(("cat", 4), ("dog", 6)), (100, 100, 100, 100)),
    ("red/white", pairs(("red white", 4), ("red/white", 2), ("pink", 4)), (100, 100, 100, 100)),
    ("$5,000 ?", pairs(("$5000", 5), ("5000", 5)), (100, 100, 100, 100)),
    ("", pairs(("nothing", 9), ("none", 1)), (0, 0, 0, 0)),
]


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_golden_vectors(number: int) -> None:
    prediction, references, expected = VECTORS[number]
    got = [100 * vqa_accuracy(prediction, references, v) for v in VQA_VARIANTS]
    assert got == pytest.approx(expected)
    assert list(VQA_VARIANTS) == ["official", "lavis", "always", "m4c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.", "5"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("it's 5:30 & 50%", "it's 5:30 & 50%"),
        ("red, blue", "red blue"),
        ("a/b", "a b"),
        ("a/ b", "a b"),
        ("1,000/2", "10002"),
        ("." * 40, "." * 8),
    ],
)
def test_punctuation_step(text: str, expected: str) -> None:
    assert strip_punctuation(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The DOG", "dog"),
        ("none of them", "0 of them"),
        ("ten men", "10 men"),
        ("dont", "don't"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),
        ("twas", "'twas"),
        ("somebody'd", "somebodyd"),
        ("shes", "shes"),
        ("lets", "lets"),
        ("weve", "we've"),
    ],
)
def test_digit_article_and_contraction_step(text: str, expected: str) -> None:
    assert normalise_words(text) == expected


def test_line_breaks_are_tidied_in_every_variant() -> None:
    for variant in VQA_VARIANTS:
        assert vqa_accuracy(" yes\n", ["yes"] * 10, variant) == 1.0


@pytest.mark.parametrize("variant", VQA_VARIANTS)
@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["cat"], 1.0),
        (["dog"], 0.0),
        (["cat"] * 2, 1.0),
        (["cat", "dog"], 1 / 2),
        (["cat"] * 3, 1.0),
        (["cat", "cat", "dog"], 2 / 3),
        (["cat", "dog", "cow"], 1 / 3),
        # from four answers on the official definition holds
        (["cat"] * 4, 1.0),
        (["cat"] * 3 + ["dog"], 3 / 4),
        (["cat"] * 2 + ["dog"] * 2, 1 / 2),
        (["cat"] + ["dog"] * 3, 1 / 4),
        (["cat"] * 3 + ["dog"] * 2, (3 * 2 / 3 + 2 * 1) / 5),
        (["cat"] * 4 + ["dog"], 1.0),
    ],
)
def test_few_answers_can_give_a_full_score(
    variant: str, answers: list[str], expected: float
) -> None:
    assert vqa_accuracy("cat", answers, variant) == pytest.approx(expected)


def test_all_wrong_and_all_right_have_exact_intervals() -> None:
    items = [Item(str(n), "i.png", "?", ("cat",), str(n // 2)) for n in range(20)]
    unseen = 100 * (1 - 0.025 ** (1 / 10))
    assert mean_score("accuracy", [0.0] * 20, items).ci95 == pytest.approx((0.0, unseen))
    assert mean_score("accuracy", [1.0] * 20, items).ci95 == pytest.approx((100 - unseen, 100.0))
    assert mean_score("accuracy", [0.3] * 20, items).ci95 is None
    assert mean_score("MAE", [0.0] * 20, items, scale=1.0).ci95 is None, "an error has no bound"


def test_no_answers_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        vqa_accuracy("cat", [])


def test_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'official'"):
        vqa_accuracy("cat", ["cat"], "oficial")


def test_many_questions_are_scored_quickly() -> None:
    references = pairs(("red", 6), ("dark red", 3), ("1,000 cats.", 1))
    started = time.process_time()
    total = sum(vqa_accuracy(f"red {n % 5000}", references) for n in range(20_000))
    assert total == 0.0
    assert time.process_time() - started < 4.0
