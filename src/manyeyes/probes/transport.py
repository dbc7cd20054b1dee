"""Gromov-Wasserstein: how far two clouds of points differ in shape, whichever point is which.

    GW = min over T of  sum_ijkl (D_ik - D'_jl)^2 T_ij T_kl      T >= 0, rows, columns sum to 1/n

D and D' are Euclidean distances within each cloud, scaled so that their mean square is 1. GW is
then 0 for clouds that are equal up to rotation, reflection, scale and order, and at most 2.

Between Euclidean distances the objective is concave (Maron and Lipman 2018), so its minimum lies at
a permutation: point i of one cloud is point ``order[i]`` of the other. The search alternates
conditional gradient (Frank-Wolfe; Peyre et al. 2016 and Vayer et al. 2019 for this problem; where
the objective is concave its exact step is a whole one) with the best exchange of two points. It
ends where neither helps. That may be a local minimum: the best of several starts is kept, and a
value is an upper bound.

Sources: the discrepancy is Memoli 2011's for weights of 1/n. arXiv 2605.01325 proposes GW between
image and text features for the choice of an encoder. Only its abstract was at hand: distances,
scale, search and starts are ours.

Shapes: n points of both clouds, D width (each its own). Everything is float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

FloatArray = NDArray[np.float64]
Order = NDArray[np.intp]

STARTS = 8
"""Random orders that a search begins with, beside those that are always tried."""
STEPS = 200
"""Steps after which a search that does not converge is given up."""
TOLERANCE = 1e-9
"""What a step must gain, as GW is scaled."""


@dataclass(frozen=True)
class Matching:
    """The best order that was found, ``[n]``, its ``value`` of GW, and how it was found.

    ``gap``: what the objective's slope at the order would still give, over all couplings, or what
    an exchange of two points would; ``converged``: that is within the tolerance.
    """

    value: float
    order: Order
    gap: float
    steps: int
    converged: bool


def distances(features: ArrayLike) -> FloatArray:
    """Return Euclidean distances ``[n, n]`` of points ``[n, D]``, of mean square 1.

    Raises:
        ValueError: not a table of finite numbers, or all points are one.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError("points must be a table [points, width] of finite numbers")
    found: FloatArray = cdist(x, x)
    size = float(np.sqrt((found**2).mean()))
    if size <= 1e-12 * max(1.0, float(np.abs(x).max())):
        raise ValueError("all points are one: their distances cannot be scaled")
    return found / size


def joined_distances(parts: Sequence[FloatArray]) -> FloatArray:
    """Return the distances of several spaces side by side, each scaled as by ``distances``."""
    squares: FloatArray = np.mean([part**2 for part in parts], axis=0)
    return np.sqrt(squares)


def distortion(one: FloatArray, other: FloatArray, order: Order) -> float:
    """Return the mean square difference of the distances where ``order`` matches the points."""
    return float(((one - other[np.ix_(order, order)]) ** 2).mean())


def gromov_wasserstein(
    one: FloatArray, other: FloatArray, *, starts: int = STARTS, seed: int = 0
) -> Matching:
    """Return the order that distorts the Euclidean distances ``[n, n]`` of two clouds least.

    Searched from the even coupling, the given order, the order of mean distances, and ``starts``
    random orders.

    Raises:
        ValueError: matrices that are not square or not of one size.
    """
    if one.ndim != 2 or one.shape != other.shape or one.shape[0] != one.shape[1]:
        raise ValueError(f"expected two square matrices of one size: {one.shape}, {other.shape}")
    found = [_search(one, other, order) for order in _starts(one, other, starts, seed)]
    return min(found, key=lambda matching: matching.value)


def _starts(one: FloatArray, other: FloatArray, count: int, seed: int) -> Iterator[Order]:
    n = len(one)
    yield linear_sum_assignment(-np.outer(one.mean(axis=1), other.mean(axis=1)))[1]
    yield np.arange(n)
    by_place = np.empty(n, dtype=np.intp)
    by_place[np.argsort(one.mean(axis=1))] = np.argsort(other.mean(axis=1))
    yield by_place
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.permutation(n)


def _search(one: FloatArray, other: FloatArray, order: Order) -> Matching:
    """Go down from one order until no step of either kind gains anything."""
    value, gap, steps = distortion(one, other, order), np.inf, 0
    while steps < STEPS:
        steps += 1
        following, slope = _slope_step(one, other, order)
        exchanged, gain = _exchange_step(one, other, order)
        gap = max(slope, gain)
        better = min((following, exchanged), key=lambda new: distortion(one, other, new))
        reached = distortion(one, other, better)
        if reached >= value - TOLERANCE:
            break
        order, value = better, reached
    return Matching(value, order, gap, steps, gap <= TOLERANCE)


def _slope_step(one: FloatArray, other: FloatArray, order: Order) -> tuple[Order, float]:
    """The order that the slope points to, and how much the slope gives on the way there.

    The slope is -4 D T D' and what only depends on the row or the column, which no order changes.
    """
    n = len(order)
    slope = -4.0 * (one[:, order.argsort()] @ other) / n**2
    _, following = linear_sum_assignment(slope)
    rows = np.arange(n)
    return following, float((slope[rows, order] - slope[rows, following]).sum())


def _exchange_step(one: FloatArray, other: FloatArray, order: Order) -> tuple[Order, float]:
    """The order after the best exchange of two points, and how much that gains."""
    n = len(order)
    matched = other[np.ix_(order, order)]
    product = one @ matched
    own = np.diagonal(product)
    gains = product + product.T - own[:, None] - own[None, :] + 2.0 * one * matched
    first, second = np.unravel_index(int(gains.argmax()), gains.shape)
    exchanged = order.copy()
    exchanged[[first, second]] = order[[second, first]]
    return exchanged, max(0.0, 4.0 * float(gains[first, second]) / n**2)
