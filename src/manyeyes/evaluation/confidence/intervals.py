"""How sure a score is, and whether two scores differ.

Letters: n items with scores s_i (for two models a_i, b_i), clusters c (usually the image: questions
on one image are not independent), d_i = a_i - b_i. Everything works on the scale of its input.

Sources: standard errors and paired differences after Miller, "Adding Error Bars to Evals"
(arXiv 2411.00640), equation 4 for clusters; the rest are textbook formulas, given where used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from manyeyes.errors import UsageError

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], float]
"""A corpus metric as a function of item weights ``[n]`` (how often each item was drawn)."""

Z95 = 1.96
"""Half width of a 95 % normal interval in standard errors."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error; ``ci95`` = mean ± 1.96 se.

    ``se`` is NaN and ``ci95`` None where one item (or one cluster) leaves no spread to measure.
    ``ci95`` is None as well where the items show no spread: an interval of width zero would claim
    to be certain. `unanimous_interval` has one for shares.
    """

    mean: float
    se: float
    n: int
    clusters: int
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """Model A minus model B on the same items, with the two-sided t-test of no difference."""

    estimate: Estimate
    p: float


@dataclass(frozen=True)
class BootstrapDifference:
    """Difference of a corpus metric: percentile interval (None where no draw differs), two-sided
    p, and ``se``, the standard deviation over the draws (NaN for a single one)."""

    difference: float
    ci95: tuple[float, float] | None
    p: float
    draws: int
    se: float


@dataclass(frozen=True)
class McNemar:
    """Discordant pairs and the two-sided p values of "both are right equally often"."""

    only_a: int
    only_b: int
    exact_p: float
    mid_p: float


def estimate_mean(scores: ArrayLike, clusters: Sequence[str] | None = None) -> Estimate:
    """Mean of item scores with the (clustered) standard error of the central limit theorem.

    SE_CLT = sqrt( Σ(s_i - s̄)² / (n - 1) / n ); with clusters
    SE² = SE_CLT² + (1/n²) Σ_c Σ_{i≠j in c} (s_i - s̄)(s_j - s̄), never below 0.

    Raises:
        UsageError: no scores, a score that is not finite, or not one cluster label per score.
    """
    values = _finite(scores, "scores")
    n = values.size
    index, count = _cluster_index(clusters, n)
    mean = float(values.mean())
    if count < 2:
        return Estimate(mean, math.nan, n, count, None)
    residuals = values - mean
    variance = float(residuals @ residuals) / (n - 1) / n
    sums = np.bincount(index, weights=residuals, minlength=count)
    between = float(sums @ sums) - float(residuals @ residuals)
    se = math.sqrt(max(0.0, variance + between / n**2))
    if no_spread(se, mean):
        return Estimate(mean, 0.0, n, count, None)
    return Estimate(mean, se, n, count, (mean - Z95 * se, mean + Z95 * se))


def share_interval(share: Estimate) -> tuple[float, float] | None:
    """95 % interval of a share, inside [0, 1]: where all items agree, see `unanimous_interval`."""
    if share.ci95 is None:
        return unanimous_interval(share.mean, share.clusters)
    low, high = share.ci95
    return max(0.0, low), min(1.0, high)


def no_spread(width: float, value: float) -> bool:
    """Whether a width around ``value`` is 0, rounding aside: nothing varied."""
    return width <= 1e-12 * max(1.0, abs(value))


def unanimous_interval(share: float, clusters: int) -> tuple[float, float] | None:
    """95 % interval (Clopper and Pearson) of a share that is 0 or 1 in every cluster.

    [0, q] or [1 - q, 1] with q = 1 - 0.025^(1 / clusters). None for any other share, which a lack
    of spread tells nothing about, and for a single cluster.
    """
    if clusters < 2 or share not in (0.0, 1.0):
        return None
    unseen = unseen_share(clusters)
    return (0.0, unseen) if share == 0.0 else (1.0 - unseen, 1.0)


def unseen_share(clusters: int) -> float:
    """The largest share of clusters that may be otherwise although none of so many is.

    1 - 0.025^(1 / clusters): with a larger share fewer than 2.5 % of samples would show none.
    """
    return 1.0 - 0.025 ** (1.0 / clusters)


def paired_difference(
    a: ArrayLike, b: ArrayLike, clusters: Sequence[str] | None = None
) -> Difference:
    """Mean of d_i = a_i - b_i with its (clustered) standard error and t-test.

    t = d̄ / SE with n - 1 degrees of freedom, or (number of clusters) - 1 when clusters are given.
    Var(d̄) = Var(ā) + Var(b̄) - 2 Cov: never less informative than looking at two intervals. Where
    only a few items differ, or all by the same, p is at least what `floored` says.
    """
    first, second = _paired(a, b)
    estimate = estimate_mean(first - second, clusters)
    if math.isnan(estimate.se):
        return Difference(estimate, math.nan)
    p = None
    if estimate.se > 0.0:
        t = abs(estimate.mean) / estimate.se
        p = min(1.0, 2.0 * float(stdtr(estimate.clusters - 1, -t)))
    return Difference(estimate, floored(p, first - second, clusters))


def floored(
    p: float | None, differences: FloatArray, clusters: Sequence[str] | None = None
) -> float:
    """A t-test's p of differences ``[n]`` (None: they have no spread), kept from being too sure.

    Where k of the clusters differ and others do not, p is at least 2^(1 - k): if chance decided who
    is better in each of the k, all would agree so often. The t-test takes a few right answers among
    many wrong ones for a normal variable. Without a spread this is p itself (k = 0: it is 1).
    """
    index, count = _cluster_index(clusters, len(differences))
    sums = np.bincount(index, weights=differences, minlength=count)
    differing = sum(not no_spread(abs(total), 1.0) for total in sums)
    least = min(1.0, float(2.0 ** (1 - differing)))
    if p is None:
        return least
    return max(p, least) if differing < count else p


def cluster_bootstrap(
    statistic: Statistic, clusters: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of a corpus metric, resampling whole clusters with replacement.

    Each draw takes as many clusters as there are; an item's weight is how often its cluster came.
    Needed where the metric is not a mean over items: CIDEr, BLEU, F1, AP. None where no draw
    differs, which says nothing of how sure the metric is.
    """
    (interval,) = cluster_bootstraps(lambda w: (statistic(w),), clusters, draws=draws, seed=seed)
    return interval


def cluster_bootstraps(
    statistics: Callable[[FloatArray], Sequence[float]],
    clusters: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> list[tuple[float, float] | None]:
    """`cluster_bootstrap` of several metrics on the same draws; one interval for each."""
    values = np.array([statistics(weights) for weights in resampled(clusters, draws, seed)])
    return [_percentiles(column) for column in values.T]


def paired_bootstrap(
    statistic_a: Statistic,
    statistic_b: Statistic,
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> BootstrapDifference:
    """Difference of a corpus metric between two models, both recomputed on every same draw.

    p = 2 · min(share of draws with difference <= 0, share with difference >= 0), at most 1.
    """
    (found,) = paired_bootstraps(
        lambda w: (statistic_a(w),), lambda w: (statistic_b(w),), clusters, draws=draws, seed=seed
    )
    return found


def paired_bootstraps(
    statistics_a: Callable[[FloatArray], Sequence[float]],
    statistics_b: Callable[[FloatArray], Sequence[float]],
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> list[BootstrapDifference]:
    """`paired_bootstrap` of several metrics on the same draws; one result for each."""

    def differences(weights: FloatArray) -> FloatArray:
        return np.subtract(statistics_a(weights), statistics_b(weights), dtype=np.float64)

    observed = differences(np.ones(len(clusters)))
    drawn = np.array([differences(weights) for weights in resampled(clusters, draws, seed)])
    return [
        bootstrap_difference(float(value), column, len(set(clusters)))
        for value, column in zip(observed, drawn.T, strict=True)
    ]


def bootstrap_difference(observed: float, drawn: FloatArray, clusters: int) -> BootstrapDifference:
    """What the drawn differences say about the observed one; see `paired_bootstrap`.

    Where all draws are the same p is that of a sign test over the clusters that were drawn from.
    """
    interval = _percentiles(drawn)
    if interval is None:
        se = 0.0 if len(drawn) > 1 else math.nan
        p = float(2.0 ** (1 - clusters)) if observed else 1.0
        return BootstrapDifference(observed, None, p, len(drawn), se)
    p = 2.0 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    se = float(drawn.std(ddof=1))
    return BootstrapDifference(observed, interval, min(1.0, p), len(drawn), se)


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Exact McNemar test for right/wrong (1/0) scores of two models on the same items.

    With b = only A right, c = only B right: exact p = min(1, 2 · P[Bin(b + c, ½) <= min(b, c)]);
    mid-p subtracts P[Bin = min(b, c)]. Clusters are ignored: use one item per cluster, or prefer
    `paired_difference` with clusters.
    """
    first, second = _paired(a, b)
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise UsageError("McNemar's test needs scores that are 0 or 1")
    only_a = int(((first == 1) & (second == 0)).sum())
    only_b = int(((first == 0) & (second == 1)).sum())
    total, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    exact = min(1.0, 2 * tail / 2**total)
    # With b = c the doubled tail counts the centre twice; 2·tail - centre is then exactly 1.
    mid = min(1.0, (2 * tail - math.comb(total, fewer)) / 2**total)
    return McNemar(only_a, only_b, exact, mid)


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's ρ of paired scores: Σ(a_i - ā)(b_i - b̄) / sqrt(Σ(a_i - ā)² · Σ(b_i - b̄)²).

    NaN where one of the two does not vary. It decides what pairing is worth, see `difference_sd`.
    """
    first, second = _paired(a, b)
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread else math.nan


def difference_sd(sd_a: float, sd_b: float, correlation: float) -> float:
    """σ_d of paired items: σ_d² = σ_a² + σ_b² - 2 ρ σ_a σ_b."""
    return math.sqrt(max(0.0, sd_a**2 + sd_b**2 - 2 * correlation * sd_a * sd_b))


def required_items(
    sd_difference: float, difference: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Items needed to detect a difference δ: n = ((z_{1-α/2} + z_power) · σ_d / δ)², rounded up."""
    if difference == 0:
        raise UsageError("a difference of 0 cannot be detected with any number of items")
    return math.ceil((_z_sum(alpha, power) * sd_difference / difference) ** 2)


def minimum_detectable_difference(
    sd_difference: float, n: int, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest difference that n paired items detect: (z_{1-α/2} + z_power) · σ_d / √n."""
    if n < 1:
        raise UsageError(f"the number of items must be at least 1, got {n}")
    return _z_sum(alpha, power) * sd_difference / math.sqrt(n)


def _z_sum(alpha: float, power: float) -> float:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise UsageError(f"alpha and power must lie between 0 and 1, got {alpha} and {power}")
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = _finite(a, "scores of A"), _finite(b, "scores of B")
    if first.size != second.size:
        raise UsageError(f"paired scores differ in number: {first.size} and {second.size}")
    return first, second


def _finite(values: ArrayLike, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise UsageError(f"{what} must be a non-empty list of numbers")
    if not np.isfinite(array).all():
        raise UsageError(f"{what} hold a value that is not finite")
    return array


def _cluster_index(clusters: Sequence[str] | None, n: int) -> tuple[NDArray[np.intp], int]:
    """Cluster number of every item, and how many clusters there are (each item its own if None)."""
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise UsageError(f"{len(clusters)} cluster labels for {n} scores")
    names, index = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    return index, len(names)


def resampled(clusters: Sequence[str], draws: int, seed: int) -> Iterator[FloatArray]:
    """Item weights ``[n]`` of every draw: how often the item's cluster came."""
    if not clusters or draws < 1:
        raise UsageError("the bootstrap needs at least one item and one draw")
    index, count = _cluster_index(clusters, len(clusters))
    generator = np.random.default_rng(seed)
    share = np.full(count, 1.0 / count)
    for _ in range(draws):
        yield generator.multinomial(count, share)[index].astype(np.float64)


def _percentiles(values: Sequence[float] | FloatArray) -> tuple[float, float] | None:
    """The middle 95 % of the draws; None where they have no width."""
    low, high = np.percentile(np.asarray(values), [2.5, 97.5])
    return None if no_spread(high - low, high) else (float(low), float(high))
