"""Repeated answers and training seeds: variances by hand, and noise told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence import intervals, repeats


def test_variance_is_split_by_hand() -> None:
    found = repeats.estimate_repeated([[1, 0], [1, 1], [0, 0], [1, 0]])
    assert found.estimate.mean == 0.5
    assert found.within == pytest.approx((0.5 + 0 + 0 + 0.5) / 4)
    assert found.between == pytest.approx(1 / 6 - 0.25 / 2)
    assert found.estimate.se == pytest.approx(math.sqrt(1 / 6 / 4))
    assert found.se_with(4, 2) == pytest.approx(found.estimate.se)
    assert found.se_with(4, 10**9) == pytest.approx(math.sqrt(found.between / 4), rel=1e-4)


def test_parts_of_the_variance_are_found_in_simulated_answers() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(0, 2, (4000, 1)) + generator.normal(0, 3, (4000, 5))
    found = repeats.estimate_repeated(scores)
    assert found.between == pytest.approx(4.0, rel=0.1)
    assert found.within == pytest.approx(9.0, rel=0.05)


def test_answers_without_noise_equal_one_answer() -> None:
    scores = np.repeat([[1.0], [0.0], [1.0]], 4, axis=1)
    found = repeats.estimate_repeated(scores, ["a", "a", "b"])
    assert (found.within, found.estimate) == (
        0.0,
        intervals.estimate_mean([1, 0, 1], ["a", "a", "b"]),
    )


def test_seeds_have_a_spread_and_a_test() -> None:
    spread = repeats.seed_spread([70.0, 72.0, 74.0])
    assert (spread.mean, spread.sd, spread.seeds) == (72.0, pytest.approx(2.0), 3)
    assert math.isnan(repeats.seed_spread([70.0]).sd)
    # differences 1, 2, 3: t = 2 / (1 / sqrt 3) with 2 degrees of freedom
    found = repeats.seed_difference([71, 74, 77], [70, 72, 74])
    t = 2 * math.sqrt(3)
    assert found.estimate.mean == 2.0
    assert found.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_seed_noise_widens_the_hierarchical_interval() -> None:
    generator = np.random.default_rng(1)
    items = generator.normal(0.1, 1, (1, 200)).repeat(4, axis=0)
    zeros, clusters = np.zeros((4, 200)), [str(i) for i in range(200)]
    steady = repeats.hierarchical_bootstrap(items, zeros, clusters, draws=2000)
    shifted = items + np.array([[-1.0], [1.0], [-1.0], [1.0]])
    noisy = repeats.hierarchical_bootstrap(shifted, zeros, clusters, draws=2000)
    assert steady.difference == pytest.approx(float(items.mean()))
    assert noisy.difference == pytest.approx(steady.difference)
    assert steady.se == pytest.approx(intervals.estimate_mean(items[0]).se, rel=0.1)
    # variance of the mean of 4 seeds at ±1, drawn with replacement: 1/4
    assert noisy.se == pytest.approx(math.sqrt(0.25 + steady.se**2), rel=0.1)
    assert repeats.hierarchical_bootstrap(items, items, clusters, draws=20).p == 1.0


def test_tables_that_hold_no_repetition_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 2 answers"):
        repeats.estimate_repeated([[1.0], [0.0]])
    with pytest.raises(UsageError, match="at least 2 seeds"):
        repeats.hierarchical_bootstrap([[1.0, 0.0]], [[1.0, 0.0]], ["a", "b"])
    with pytest.raises(UsageError, match="not finite"):
        repeats.estimate_repeated([[1.0, math.nan]])
    with pytest.raises(UsageError, match="2 x 3 and 2 x 2 seeds x items for 3"):
        repeats.hierarchical_bootstrap(np.ones((2, 3)), np.ones((2, 2)), ["a", "b", "c"])
    with pytest.raises(UsageError, match="at least 1"):
        repeats.estimate_repeated([[1.0, 0.0]]).se_with(0, 1)
