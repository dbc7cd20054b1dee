"""Gromov-Wasserstein against every permutation of few points, and what it must see through."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from manyeyes.probes import transport
from manyeyes.probes.transport import (
    FloatArray,
    distances,
    distortion,
    gromov_wasserstein,
    joined_distances,
)


def cloud(seed: int, points: int, width: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(points, width))


def brute_force(one: FloatArray, other: FloatArray) -> float:
    """The least distortion over all permutations, where the minimum of Euclidean clouds lies."""
    n = len(one)
    every = (np.array(order) for order in itertools.permutations(range(n)))
    return min(float(((one - other[order][:, order]) ** 2).sum()) / n**2 for order in every)


@pytest.mark.parametrize("points", [4, 5])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_least_over_all_orders(points: int, seed: int) -> None:
    one, other = distances(cloud(seed, points, 2)), distances(cloud(seed + 100, points, 3))
    found = gromov_wasserstein(one, other)
    assert found.value == pytest.approx(brute_force(one, other), abs=1e-12)
    assert found.converged
    assert found.value == pytest.approx(distortion(one, other, found.order))


def test_no_coupling_of_mass_is_better_than_the_best_order() -> None:
    """Any mixture of orders is a coupling; the objective of the definition, sum by sum."""
    one, other = distances(cloud(1, 4, 2)), distances(cloud(2, 4, 2))
    best = gromov_wasserstein(one, other).value
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights = rng.dirichlet(np.full(24, 0.3))
        mixed = np.zeros((4, 4))
        for weight, order in zip(weights, itertools.permutations(range(4)), strict=True):
            mixed[np.arange(4), order] += weight / 4
        costs = (one[:, None, :, None] - other[None, :, None, :]) ** 2
        assert np.einsum("ijkl,ij,kl->", costs, mixed, mixed) >= best - 1e-12


def test_turned_scaled_and_shuffled_clouds_are_equal_and_the_order_is_found() -> None:
    points = cloud(3, 30, 6)
    order = np.random.default_rng(4).permutation(30)
    turn = np.linalg.qr(cloud(5, 6, 6))[0]
    found = gromov_wasserstein(distances(points), distances(5.0 * points[order] @ turn + 1.0))
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert (order[found.order] == np.arange(30)).all()


def test_a_value_worked_by_hand() -> None:
    """Three points at 0, 1, 2 against an equilateral triangle.

    Mean squares: (4 * 1 + 2 * 4) / 9 = 4/3 and 6/9 of the side. Every order is alike: the sum of
    products over pairs is 2 (1 + 1 + 2) / sqrt(4/3) / sqrt(2/3) = 6 sqrt(2), so GW = 2 - 2 * 6
    sqrt(2) / 9.
    """
    line = distances(np.array([[0.0], [1.0], [2.0]]))
    triangle = distances(np.eye(3))
    expected = 2 - 2 * (8 / np.sqrt(8 / 9)) / 9
    assert gromov_wasserstein(line, triangle).value == pytest.approx(expected)


def test_spaces_side_by_side() -> None:
    one, other = cloud(6, 9, 3), cloud(7, 9, 4)
    apart = [distances(one), distances(other)]
    sizes = [np.sqrt((np.square(x[:, None] - x[None]).sum(-1)).mean()) for x in (one, other)]
    whole = distances(np.hstack([one / sizes[0], other / sizes[1]]))
    assert np.allclose(joined_distances(apart), whole)


def test_a_search_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = distances(cloud(8, 20, 3)), distances(cloud(9, 20, 3))
    whole = gromov_wasserstein(one, other)
    monkeypatch.setattr(transport, "STEPS", 1)
    short = gromov_wasserstein(one, other)
    assert whole.converged and not short.converged and short.gap > 0.0
    assert short.value >= whole.value


def test_what_has_no_distance() -> None:
    with pytest.raises(ValueError, match="all points are one"):
        distances(np.ones((4, 2)))
    with pytest.raises(ValueError, match="finite numbers"):
        distances(np.array([[np.inf], [0.0]]))
    with pytest.raises(ValueError, match="two square matrices of one size"):
        gromov_wasserstein(np.zeros((3, 3)), np.zeros((4, 4)))
