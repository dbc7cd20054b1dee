"""Reading options, yes/no, counts and rankings out of answers: golden cases and quirks."""

from __future__ import annotations

import math
import random

import pytest

from manyeyes.evaluation.scorers.counting import COUNT_VARIANTS, PRESENCE_VARIANTS
from manyeyes.evaluation.scorers.mme import mme_answers, parse_mme
from manyeyes.evaluation.scorers.multiple_choice import chosen_option
from manyeyes.evaluation.scorers.ranking import ndcg, ranks_of_losses

OPTIONS = {"A": "a red cube", "B": "a sphere", "C": "two cones", "D": "nothing"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("**C**.", "C"),
        ("B. a sphere", "B"),
        ("The option is: D!", "D"),
        ("A sphere", "A"),  # the article is taken for the letter, as in the original
        ("I see A SPHERE there", "A"),
        ("a sphere", "B"),
        ("A and B", None),
        ("B is what I would say here", None),  # the letter does not stand near the end
        ("the answer is B because the others are not in the picture", "B"),
        ("Answer is (c), as far as one can tell from here", "C"),
        ("answer is E", None),
        ("two cones", "C"),
        ("two cones or nothing", None),
        ("b", None),
        ("", None),
        ("nothing " + "x" * 100, None),  # longer than twice all options
    ],
)
def test_options_without_a_judge(answer: str, letter: str | None) -> None:
    assert chosen_option(answer, OPTIONS) == letter


def test_only_the_last_four_words_are_searched_for_a_letter() -> None:
    assert chosen_option("B one two three", OPTIONS) == "B"
    assert chosen_option("B one two three four", OPTIONS) is None


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ("Yes", "yes"),
        ("No.", "no"),
        (" yes, there is", "yes"),
        ("Y", "yes"),
        ("n.", "no"),
        ("not sure", "no"),
        ("nope", "no"),
        ("It is not", None),
        ("I know", None),
        ("", None),
        ("x", None),
        ("1no", "no"),
    ],
)
def test_mme_looks_at_four_characters(answer: str, parsed: str | None) -> None:
    assert parse_mme(answer) == parsed


def test_mme_scores_by_hand() -> None:
    """count: 3 of 4 questions, 1 of 2 images; OCR: all of one image."""
    graded = mme_answers(
        [1, 1, 1, 0, 1, 1], ["count"] * 4 + ["OCR"] * 2, ["a", "a", "b", "b", "a", "a"]
    )
    assert graded.scores() == pytest.approx({"count": 75 + 50, "OCR": 200})


@pytest.mark.parametrize(
    ("answer", "official", "strict"),
    [
        ("There are three dogs", 3, 3),
        ("", 0, None),
        ("5", 5, 5),
        ("Three", 0, 3),
        ("nine", 0, 9),
        ("nive", 9, None),
        ("someone has two", 1, 2),  # "some1": the replacement is inside words
        ("none", 0, 0),
        ("No dogs", 0, 0),
        ("twelve", 0, 12),
        ("about 12 or 13", 12, 12),
        ("many", 0, None),
        ("9" * 5000, int("9" * 18), int("9" * 18)),
    ],
)
def test_xformer_check_18_counts_official_with_quirks_and_strict(
    answer: str, official: int, strict: int | None
) -> None:
    assert COUNT_VARIANTS["official"](answer) == official
    assert COUNT_VARIANTS["strict"](answer) == strict


@pytest.mark.parametrize(
    ("answer", "present", "official", "strict"),
    [
        ("Yes.", True, True, True),
        ("No.", True, False, False),
        ("No.", False, True, True),
        ("I do not know", False, True, None),  # "no" stands in "not" and "know"
        ("yesterday", True, True, None),
        ("Yes, nobody", False, True, False),
        ("", True, False, None),
        ("maybe", False, False, None),
    ],
)
def test_presence_official_with_quirks_and_strict(
    answer: str, present: bool, official: bool, strict: bool | None
) -> None:
    assert PRESENCE_VARIANTS["official"](answer, present) == official
    assert PRESENCE_VARIANTS["strict"](answer, present) == strict


def test_ranks_of_losses() -> None:
    assert ranks_of_losses([3.0, -1.0, 2.0, -1.0]) == [4, 1, 3, 2]


def test_ndcg_by_hand() -> None:
    """Two relevant candidates, 1.0 and 0.5; ranked second and first."""
    relevance = [0.0, 1.0, 0.5]
    best = 1 + 0.5 / math.log2(3)
    assert ndcg([3, 1, 2], relevance) == pytest.approx(1.0)
    assert ndcg([3, 2, 1], relevance) == pytest.approx((0.5 + 1 / math.log2(3)) / best)
    assert ndcg([1, 2, 3], relevance) == pytest.approx((1 / math.log2(3)) / best)
    assert ndcg([1, 2, 3], [0.0, 0.0, 0.0]) == 0.0
    assert ndcg([], relevance) == 0.0


def test_the_order_of_relevance_is_the_best_ranking() -> None:
    rng = random.Random(0)
    relevance = [rng.choice([0.0, 0.2, 0.6, 1.0]) for _ in range(100)]
    best = ranks_of_losses([-value for value in relevance])
    assert ndcg(best, relevance) == pytest.approx(1.0)
    for _ in range(20):
        ranks = rng.sample(range(1, 101), 100)
        assert ndcg(ranks, relevance) <= 1.0
