"""Exact match: equal or not."""

from __future__ import annotations

import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.scorers.exact_match import exact_match


@pytest.mark.parametrize(
    ("prediction", "reference", "official", "relaxed"),
    [
        ("red", "red", 1, 1),
        (" red\n", "red", 1, 1),
        ("Red.", "red", 0, 1),
        ("dark red", "red", 0, 0),
        ("", "red", 0, 0),
        ("3", "three", 0, 0),
    ],
)
def test_exact_match(prediction: str, reference: str, official: int, relaxed: int) -> None:
    assert exact_match(prediction, reference) == official
    assert exact_match(prediction, reference, "relaxed") == relaxed


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'relaxed'"):
        exact_match("a", "a", "relax")
