"""Rank correlation: by hand, its exact p over all orders, and where it says nothing."""

from __future__ import annotations

import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence.ranks import rank_correlation, ranks


def test_equal_figures_share_their_mean_rank() -> None:
    assert ranks([0.3, 0.1, 0.3, 0.9]).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_four_pairs_by_hand() -> None:
    """1 - 6 * 2 / (4 * 15) = 0.8; eight of 24 orders are as far from 0: four on either side."""
    found = rank_correlation([1, 2, 3, 4], [10, 20, 40, 30])
    assert found.rho == pytest.approx(0.8)
    assert found.p == pytest.approx(8 / 24)
    assert found.ci95 is None and found.chance is not None
    perfect = rank_correlation([1, 2, 3, 4], [5, 6, 7, 8])
    assert perfect.rho == pytest.approx(1.0) and perfect.p == pytest.approx(2 / 24)


def test_too_few_or_constant_figures_say_nothing() -> None:
    three = rank_correlation([1, 2, 3], [1, 2, 3])
    assert (three.n, three.rho, three.p, three.chance) == (3, None, None, None)
    assert rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]).rho is None
    with pytest.raises(UsageError, match="differ in number: 1 and 2"):
        rank_correlation([1], [1, 2])


def test_many_pairs_have_an_interval_by_resampling() -> None:
    noisy = [1, 3, 2, 5, 4, 7, 6, 9, 8, 10]
    found = rank_correlation(list(range(10)), noisy)
    assert found.rho is not None and found.ci95 is not None and found.p is not None
    assert found.ci95[0] < found.rho <= found.ci95[1] <= 1.0
    assert found.p < 0.01
    again = rank_correlation(list(range(10)), noisy)
    assert again == found
