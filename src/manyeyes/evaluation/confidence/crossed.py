"""Two methods, each trained with S seeds, on the same n items: which is better, and how sure?

Seeds and items are crossed: every run answers every item. With paired differences
d_si = a_si - b_si (run s of A and of B share their seed) the model is

    d_si = μ + α_s + β_i + ε_si        seeds, items, and both together

and the variance of the mean d̄ is V = V_S + V_I - V_E, where V_S is the spread of the S seed means
over S, V_I that of the n item means over n (clustered by image), and V_E the part of ε, which both
hold. t = d̄ / √V is compared with Student's t at Satterthwaite's degrees of freedom
V² / (min(V, 2 V_S)² / (S - 1) + V_I² / (C - 1)), C clusters. The 2 is ours: V_S of three seeds is
a poor estimate, and without it the test claims too often (`docs/comparing.md` has the figures).

A study of K arms estimates V_S from all of them, with (K - 1)(S - 1) in place of S - 1, and takes
it where the two arms' own is smaller. But seeds move arms at the floor of a benchmark less than
others, whose noise they would hide: an own V_S so large that one of four pairs like the study's
would reach it by chance (an F test) stands alone, with its own S - 1. This rule is ours as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtri, nctdtr, stdtr, stdtrit

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence.intervals import FloatArray, estimate_mean, floored, no_spread

MOST_SEEDS = 1000
MOST_TIMES = 10_000
"""Beyond these the answer to "how many more would it take" is "too many"."""

_CAUTION = 2.0
_BY_CHANCE = 0.25
"""Share of pairs whose own noise would be judged alone if seeds moved all arms equally."""


@dataclass(frozen=True)
class Spread:
    """What the variance of a mean difference is made of, for S seeds and n items.

    ``seeds``, ``items``, ``both``: the parts of α, β and ε. ``number`` S of seeds, ``clusters`` C.
    ``pooled``: from how many pairs' worth of runs the spread over seeds was estimated (K - 1 for
    the K arms of a study).
    """

    seeds: float
    items: float
    both: float
    number: int
    clusters: int
    pooled: int = 1

    @property
    def variance(self) -> float:
        """V of the mean difference."""
        return self.seeds + self.items + self.both

    @property
    def df(self) -> float:
        """Degrees of freedom; see the module."""
        of_seeds, of_items = self.seeds + self.both, self.items + self.both
        total = self.variance
        cautious = min(total, _CAUTION * of_seeds)
        by_seeds = cautious**2 / (self.pooled * (self.number - 1)) if self.number > 1 else 0.0
        by_items = of_items**2 / (self.clusters - 1)
        return total**2 / (by_seeds + by_items) if by_seeds + by_items else math.inf

    def with_seeds(self, number: int) -> Spread:
        """The same differences measured with another number of seeds."""
        share = self.number / number
        return replace(self, seeds=self.seeds * share, both=self.both * share, number=number)

    def with_items(self, times: float) -> Spread:
        """The same differences measured on ``times`` as many items (and images)."""
        clusters = max(2, math.floor(self.clusters * times))
        return replace(self, items=self.items / times, both=self.both / times, clusters=clusters)

    def power(self, difference: float, alpha: float = 0.05) -> float:
        """Probability that a true ``difference`` gives p < ``alpha``."""
        if self.variance <= 0.0:
            return 1.0 if difference else alpha
        limit = _limit(self.df, alpha)
        shift = abs(difference) / math.sqrt(self.variance)
        above = 1.0 - float(nctdtr(self.df, shift, limit))
        found = above + float(nctdtr(self.df, shift, -limit))
        if math.isfinite(found):
            return found
        # nctdtr gives up on large shifts, where the normal distribution is as good
        return NormalDist().cdf(shift - limit) + NormalDist().cdf(-shift - limit)

    def detectable(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """Smallest true difference that is found with ``power``."""
        low, high = 0.0, 1e-9
        while self.power(high, alpha) < power:
            high *= 2.0
        for _ in range(60):
            middle = (low + high) / 2.0
            low, high = (middle, high) if self.power(middle, alpha) < power else (low, middle)
        return high

    def seeds_required(
        self, difference: float, alpha: float = 0.05, power: float = 0.8
    ) -> int | None:
        """Seeds that find ``difference`` with ``power`` on the same items; None: beyond reach."""
        if self.number < 2 or not difference:
            return None
        enough = _least(
            lambda number: self.with_seeds(number).power(difference, alpha) >= power, 2, MOST_SEEDS
        )
        return enough

    def times_required(
        self, difference: float, alpha: float = 0.05, power: float = 0.8
    ) -> int | None:
        """How many times as many items find ``difference`` with these seeds; None: beyond reach."""
        if not difference:
            return None
        return _least(
            lambda times: self.with_items(times).power(difference, alpha) >= power, 1, MOST_TIMES
        )


@dataclass(frozen=True)
class CrossedDifference:
    """Mean of a - b over seeds and items.

    ``se``, ``ci95`` and ``p`` allow for other seeds and other items; with one seed for other items
    only. ``p`` is NaN and ``ci95`` None where nothing varies enough to measure (one cluster). Where
    only a few items differ, or all by the same, p is at least what ``statistics.floored`` says, and
    in the second case ``ci95`` is None.
    """

    difference: float
    se: float
    df: float
    ci95: tuple[float, float] | None
    p: float
    seeds: int
    n: int
    clusters: int
    spread: Spread | None


@dataclass(frozen=True)
class SeedNoise:
    """V_S of a difference of two arms, estimated from all K arms of a study; ``pooled`` = K - 1."""

    variance: float
    pooled: int


def seed_noise(tables: Sequence[ArrayLike]) -> SeedNoise | None:
    """Estimate V_S from the scores ``[S, n]`` of K arms; None for fewer than two arms or seeds.

    V_S = 2 MS / S, where MS is the mean square of the arms' seed means after the mean of each arm
    and of each seed is taken out: with two arms that of their differences, with more it has
    (K - 1)(S - 1) degrees of freedom. It is the noise of a pair of arms that seeds move as they
    move the average arm.
    """
    means = np.stack([np.asarray(table, dtype=np.float64).mean(axis=1) for table in tables])
    arms, seeds = means.shape
    if arms < 2 or seeds < 2:
        return None
    left = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    mean_square = float((left**2).sum()) / ((arms - 1) * (seeds - 1))
    return SeedNoise(2.0 * mean_square / seeds, arms - 1)


def crossed_difference(
    a: ArrayLike, b: ArrayLike, clusters: list[str], noise: SeedNoise | None = None
) -> CrossedDifference:
    """Compare two tables of scores ``[S, n]``; row s of both was trained with the same seed.

    ``noise``: of the whole study, in place of these two arms' own unless that is far larger.

    Raises:
        UsageError: tables of different shapes, without rows or items, with a value that is not
            finite, or not one cluster label per item.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise UsageError(
            f"expected two tables of seeds x items, got shapes {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError("scores hold a value that is not finite")
    differences = first - second
    seeds, n = differences.shape
    mean = float(differences.mean())
    spread = _spread(differences, clusters, noise)
    if spread is None:
        return CrossedDifference(mean, math.nan, math.nan, None, math.nan, seeds, n, 1, None)
    se, df = math.sqrt(spread.variance), spread.df
    of_items = differences.mean(axis=0)
    if no_spread(se, mean):
        p = floored(None, of_items, clusters)
        return CrossedDifference(mean, 0.0, df, None, p, seeds, n, spread.clusters, spread)
    half = _limit(df, 0.05) * se
    p = floored(min(1.0, 2.0 * _tail(df, abs(mean) / se)), of_items, clusters)
    ci95 = (mean - half, mean + half)
    return CrossedDifference(mean, se, df, ci95, p, seeds, n, spread.clusters, spread)


def _spread(differences: FloatArray, clusters: list[str], noise: SeedNoise | None) -> Spread | None:
    """V_S, V_I and V_E of differences ``[S, n]``, as parts that add up."""
    seeds = len(differences)
    over_items = estimate_mean(differences.mean(axis=0), clusters)
    count = over_items.clusters
    if count < 2:
        return None
    of_items = over_items.se**2
    if seeds == 1:
        return Spread(0.0, of_items, 0.0, 1, count)
    own = float(differences.mean(axis=1).var(ddof=1)) / seeds
    of_seeds, pooled = _noise(own, seeds, noise)
    both = min(_both(differences, clusters, count), of_seeds, of_items)
    return Spread(of_seeds - both, of_items - both, both, seeds, count, pooled)


def _noise(own: float, seeds: int, noise: SeedNoise | None) -> tuple[float, int]:
    """V_S of a pair and the pairs' worth of runs that it is estimated from; see the module."""
    if noise is None:
        return own, 1
    of_study = noise.pooled * (seeds - 1)
    if own > noise.variance * float(fdtri(seeds - 1, of_study, 1.0 - _BY_CHANCE)):
        return own, 1
    return max(own, noise.variance), noise.pooled


def _both(differences: FloatArray, clusters: list[str], count: int) -> float:
    """V_E: what is left in the sums of seed s and cluster c without the means of either."""
    seeds, n = differences.shape
    _, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    grand = differences.mean()
    sums = np.stack(
        [np.bincount(index, weights=row - grand, minlength=count) for row in differences]
    )
    sizes = np.bincount(index, minlength=count)
    of_seed = (differences.mean(axis=1) - grand)[:, None]
    left = sums - sums.mean(axis=0) - sizes * of_seed
    return float((left**2).sum()) / ((seeds - 1) * seeds * n**2) * count / (count - 1)


def _limit(df: float, alpha: float) -> float:
    """The quantile of |t| that chance exceeds with probability ``alpha``."""
    if not math.isfinite(df):
        return NormalDist().inv_cdf(1.0 - alpha / 2.0)
    return -float(stdtrit(df, alpha / 2.0))


def _tail(df: float, t: float) -> float:
    return NormalDist().cdf(-t) if not math.isfinite(df) else float(stdtr(df, -t))


def _least(holds: Callable[[int], bool], low: int, most: int) -> int | None:
    """The least number from ``low`` to ``most`` that ``holds``; larger ones then hold as well."""
    high = low
    while not holds(high):
        if high >= most:
            return None
        low, high = high + 1, min(most, 2 * high)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
