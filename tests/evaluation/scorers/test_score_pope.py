"""POPE's parsers and metrics, against the official code's behaviour and published rows."""

from __future__ import annotations

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.scorers.pope import parse_yes_no, pope_answers


@pytest.mark.parametrize(
    ("answer", "official", "strict"),
    [
        ("yes", "yes", "yes"),
        ("No", "no", "no"),
        ("no, there is not", "no", "no"),
        ("There is not a dog. Yes", "no", "yes"),
        ("Yes. no", "yes", "yes"),
        ("NO", "yes", "no"),
        ("Not sure", "yes", None),
        ("isn't", "yes", None),
        ("no\n", "yes", "no"),
        ("No!", "yes", "no"),
        ("", "yes", None),
        ("I know", "yes", None),
    ],
)
def test_official_and_strict_parsing(answer: str, official: str, strict: str | None) -> None:
    assert parse_yes_no(answer) == official
    assert parse_yes_no(answer, "strict") == strict


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'strict'"):
        parse_yes_no("yes", "strikt")


def test_metrics_of_a_small_table() -> None:
    metrics = pope_answers(["yes", "yes", "no", None], ["yes", "no", "no", "yes"]).metrics()
    assert metrics.accuracy == 0.5
    assert metrics.precision == 0.5
    assert metrics.recall == 0.5
    assert metrics.f1 == 0.5
    assert metrics.yes_ratio == 0.5


def test_zero_denominators_give_zero() -> None:
    metrics = pope_answers(["no", "no"], ["no", "no"]).metrics()
    assert (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1) == (1.0, 0, 0, 0)


def test_weights_repeat_items() -> None:
    parsed, labels = ["yes", "no", "yes"], ["yes", "yes", "no"]
    weighted = pope_answers(parsed, labels).metrics(np.array([2.0, 1.0, 0.0]))
    repeated = pope_answers(["yes", "yes", "no"], ["yes", "yes", "yes"]).metrics()
    assert weighted == repeated


@pytest.mark.parametrize(
    ("negatives", "precision", "recall", "accuracy", "f1"),
    [
        (1410, 0.9712, 0.8100, 88.97, 88.33),
        (1500, 0.9169, 0.8087, 86.77, 85.94),
        (1500, 0.8869, 0.8107, 85.37, 84.71),
    ],
)
def test_published_rows_follow_from_precision_and_recall(
    negatives: int, precision: float, recall: float, accuracy: float, f1: float
) -> None:
    """LION's rows on the random (2,910 questions), popular and adversarial sets."""
    hits = round(1500 * recall)
    false_alarms = round(hits * (1 / precision - 1))
    parsed = ["yes"] * hits + ["no"] * (1500 - hits)
    parsed += ["yes"] * false_alarms + ["no"] * (negatives - false_alarms)
    metrics = pope_answers(parsed, ["yes"] * 1500 + ["no"] * negatives).metrics()
    assert 100 * metrics.accuracy == pytest.approx(accuracy, abs=0.02)
    assert 100 * metrics.f1 == pytest.approx(f1, abs=0.02)
