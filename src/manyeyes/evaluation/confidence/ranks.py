"""Whether one list of figures orders things as another does: Spearman's rank correlation.

With few things an interval says nothing, so what chance alone would give stands beside it, over all
orders. Sources: textbook formulas; which of them is given for how many things is ours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence.intervals import correlation, no_spread

LEAST = 4
"""Things below which a rank correlation says nothing: three have six orders."""
EXACT = 8
"""Up to so many things every order is tried; from so many on there is a bootstrap interval."""
ORDERS, RESAMPLES = 10_000, 1000
"""Orders that are drawn of more things; resamples for an interval."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ``rho`` of ``n`` pairs; None where there are too few, or one side is constant.

    ``p``: share of orders with a correlation at least as far from 0. ``chance``: the middle 95 % of
    the orders. ``ci95``: by resampling pairs, for ``EXACT`` pairs and more.
    """

    n: int
    rho: float | None
    p: float | None = None
    chance: tuple[float, float] | None = None
    ci95: tuple[float, float] | None = None


def rank_correlation(
    one: Sequence[float], other: Sequence[float], *, seed: int = 0
) -> RankCorrelation:
    """Return the rank correlation of paired figures; equal figures share their mean rank.

    Raises:
        UsageError: not as many of one as of the other.
    """
    if len(one) != len(other):
        raise UsageError(f"paired figures differ in number: {len(one)} and {len(other)}")
    n = len(one)
    a, b = ranks(one), ranks(other)
    rho = correlation(a, b) if n >= LEAST else math.nan
    if math.isnan(rho):
        return RankCorrelation(n, None)
    by_chance = _correlations(a, b[_orders(n, seed)])
    far = (np.abs(by_chance) >= abs(rho) - 1e-9).sum()
    p = far / len(by_chance) if n <= EXACT else (far + 1) / (len(by_chance) + 1)
    low, high = np.percentile(by_chance, [2.5, 97.5])
    return RankCorrelation(n, rho, float(p), (float(low), float(high)), _interval(a, b, seed))


def ranks(values: Sequence[float]) -> FloatArray:
    """Return ranks from 1 on, the smallest first; equal values share the mean of theirs."""
    _, place, counts = np.unique(
        np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True
    )
    last = counts.cumsum()
    found: FloatArray = (last - (counts - 1) / 2.0)[place]
    return found


def _orders(n: int, seed: int) -> NDArray[np.intp]:
    """All orders of n things, or ``ORDERS`` drawn ones."""
    if n <= EXACT:
        return np.array(list(itertools.permutations(range(n))), dtype=np.intp)
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n) for _ in range(ORDERS)])


def _correlations(a: FloatArray, b: FloatArray) -> FloatArray:
    """Pearson's correlation of ``a`` ``[n]`` with every row of ``b`` ``[K, n]``, which varies."""
    a, b = a - a.mean(), b - b.mean(axis=1, keepdims=True)
    found: FloatArray = b @ a / (np.linalg.norm(a) * np.linalg.norm(b, axis=1))
    return found


def _interval(a: FloatArray, b: FloatArray, seed: int) -> tuple[float, float] | None:
    """95 % percentile interval over resampled pairs, ranked anew; None for fewer than ``EXACT``."""
    n = len(a)
    if n < EXACT:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for chosen in rng.integers(n, size=(RESAMPLES, n)):
        drawn.append(correlation(ranks(a[chosen].tolist()), ranks(b[chosen].tolist())))
    kept = np.array(drawn)[~np.isnan(drawn)]
    low, high = np.percentile(kept, [2.5, 97.5])
    return None if no_spread(float(high - low), float(high)) else (float(low), float(high))
