"""Metrics of short answers, by vectors worked by hand from their definitions."""

from __future__ import annotations

import pytest

from manyeyes.data.own.metrics import METRICS, listed_options, metric_for
from manyeyes.evaluation.benchmarks.short_answers import SHORT_METRICS, short_score
from manyeyes.evaluation.scorers.anls import anls, edit_distance
from manyeyes.evaluation.scorers.numerals import first_number, number_match, relaxed_match

OPTIONS = {"A": "red", "B": "dark blue", "C": "green"}


@pytest.mark.parametrize(
    ("said", "references", "score"),
    [
        ("easy", ["easy"], 1.0),
        ("EASY ", ["easy"], 1.0),
        ("cat", ["cut"], 1 - 1 / 3),
        ("ab", ["cd"], 0.0),
        ("abcd", ["abxy"], 0.0),  # NL = 0.5 is not below the threshold
        ("abcde", ["abcxy"], 1 - 2 / 5),
        ("abcde", ["zzzzz", "abcdx"], 1 - 1 / 5),
        ("", ["a"], 0.0),
    ],
)
def test_anls(said: str, references: list[str], score: float) -> None:
    assert anls(said, references) == pytest.approx(score)


def test_edit_distance_counts_all_three_edits() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert (edit_distance("", "abc"), edit_distance("abc", "")) == (3, 3)


@pytest.mark.parametrize(
    ("said", "reference", "score"),
    [
        ("105", "100", 1.0),
        ("105.1", "100", 0.0),
        ("95", "100", 1.0),
        ("0.1", "0", 0.0),
        ("0", "0", 1.0),
        ("12%", "0.12", 1.0),
        ("1,050", "1000", 1.0),
        ("Blue", "blue", 1.0),
        ("2019 ", "two", 0.0),
        ("-100", "100", 0.0),
    ],
)
def test_relaxed_accuracy(said: str, reference: str, score: float) -> None:
    assert relaxed_match(said, reference) == score


def test_numbers_are_found_in_words_and_digits() -> None:
    assert first_number("There are three cats and 4 dogs.") == 3.0
    assert first_number("about 1,200.50 euros") == 1200.5
    assert first_number("none at all") is None
    assert number_match("I see two.", "2") == 1.0
    assert number_match("twofold", "2") == 0.0
    assert number_match("none", "none") == 0.0


@pytest.mark.parametrize(
    ("metric", "said", "references", "score"),
    [
        ("exact", "A red Ball.", ["a red ball"], 1.0),
        ("exact", "ball", ["a red ball", "Ball"], 1.0),
        ("exact", "red ball", ["a red ball"], 0.0),
        ("relaxed", "10.4", ["9", "10"], 1.0),
        ("vqa", "red", ["red", "red", "blue"], 2 / 3),
        ("contains", "It is a cat, I think.", ["cat"], 1.0),
        ("contains", "concatenate", ["cat"], 0.0),
        ("number", "5 of them", ["five"], 1.0),
        ("choice", "B", ["B"], 1.0),
        ("choice", "(B) dark blue", ["dark blue"], 1.0),
        ("choice", "it is green", ["C"], 1.0),
        ("choice", "A or B", ["A"], 0.0),
        ("yes_no", "Yes, it does.", ["yes"], 1.0),
        ("yes_no", "perhaps", ["no"], 0.0),
    ],
)
def test_metrics_by_name(metric: str, said: str, references: list[str], score: float) -> None:
    assert short_score(metric, said, references, OPTIONS) == pytest.approx(score)


def test_every_short_metric_that_a_row_may_name_is_scored() -> None:
    assert {m for m, b in METRICS.items() if b == "question_answer"} == set(SHORT_METRICS)


@pytest.mark.parametrize(
    ("question", "references", "metric"),
    [
        ("Is it red?", [["yes"], ["No."]], "yes_no"),
        ("How many?", [["3"], ["1,200"], ["4.5 %"]], "number"),
        ("How many?", [["3"], ["none"]], "exact"),
        ("Colour?\nA. red\nB. blue", [["B"], ["a"]], "choice"),
        ("Colour?\nA. red\nB. blue", [["dark"]], "exact"),
        ("What is it?", [["a cat"], ["the neighbour's old black dog"]], "exact"),
        ("What is it?", [["cat", "kitten"]], "vqa"),
        # short captions among long ones are captions
        ("Describe.", [["a b c d e f"], ["two words"], ["one two three four five six"]], "rouge"),
    ],
)
def test_what_an_answer_calls_for(question: str, references: list[list[str]], metric: str) -> None:
    assert metric_for(question, references) == metric


def test_options_are_lines_from_a_on() -> None:
    assert listed_options("Which?\n(A) red\nB. dark blue\nC) green") == OPTIONS
    assert listed_options("Which?\nB. red\nC. blue") == {}
    assert listed_options("A. Smith painted it. Is it red?") == {}
