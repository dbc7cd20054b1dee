"""What repetition adds to a score: several answers to a question, several training seeds.

Item noise (which questions happen to be in the set) and seed noise (which model training happened
to give) are different things: an interval over items says nothing about another seed. Letters: n
items, K answers to each, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence.intervals import (
    BootstrapDifference,
    Difference,
    Estimate,
    FloatArray,
    bootstrap_difference,
    estimate_mean,
    paired_difference,
    resampled,
)


@dataclass(frozen=True)
class RepeatedEstimate:
    """A mean over items of K answers each; ``estimate`` has the standard error of both noises.

    ``between`` is the variance of the items' own expected scores, ``within`` that of the answers to
    one item; `se_with` tells what other numbers of items and answers would bring.
    """

    estimate: Estimate
    between: float
    within: float

    def se_with(self, items: int, answers: int) -> float:
        """sqrt( between / n + within / (n K) ), clusters aside: more answers cure only the second.

        Raises:
            UsageError: a number below 1.
        """
        if items < 1 or answers < 1:
            raise UsageError(f"items and answers must be at least 1, got {items} and {answers}")
        return math.sqrt(self.between / items + self.within / (items * answers))


@dataclass(frozen=True)
class SeedSpread:
    """Mean and standard deviation of one score over training seeds (NaN for a single seed)."""

    mean: float
    sd: float
    seeds: int


def estimate_repeated(scores: ArrayLike, clusters: Sequence[str] | None = None) -> RepeatedEstimate:
    """Estimate of the mean of scores ``[n, K]``: averaged within each item first.

    within = mean over items of Σ_k (s_ik - s̄_i)² / (K - 1); between = Var(s̄_i) - within / K, not
    below 0 (Miller, arXiv 2411.00640).

    Raises:
        UsageError: not ``[n, K]`` with K >= 2 and finite values.
    """
    values = _table(scores, "answers to each item")
    means = values.mean(axis=1)
    within = float(values.var(axis=1, ddof=1).mean())
    spread = float(means.var(ddof=1)) if len(means) > 1 else math.nan
    between = max(0.0, spread - within / values.shape[1])
    return RepeatedEstimate(estimate_mean(means, clusters), between, within)


def seed_spread(scores: ArrayLike) -> SeedSpread:
    """Mean ± standard deviation of a score ``[S]`` over seeds; at least 3 make it worth printing.

    Raises:
        UsageError: no scores, or values that are not finite.
    """
    estimate = estimate_mean(scores)
    return SeedSpread(estimate.mean, estimate.se * math.sqrt(estimate.n), estimate.n)


def seed_difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """t-test over seeds on per-seed differences d_s = a_s - b_s of two methods' scores ``[S]``.

    t = d̄ / (SD(d) / √S) with S - 1 degrees of freedom: a claim about methods, not checkpoints.
    """
    return paired_difference(a, b)


def hierarchical_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> BootstrapDifference:
    """Difference of mean scores ``[S, n]`` of two methods, over other seeds and other items.

    Each draw takes S seeds with replacement, then whole clusters of items with replacement, the
    same for both methods; run s of A is paired with run s of B.

    Raises:
        UsageError: tables of different shape, of fewer than 2 seeds, or of other items than
            ``clusters``.
    """
    first, second = (_table(np.transpose(scores), "seeds") for scores in (a, b))
    if first.shape != second.shape or len(first) != len(clusters):
        raise UsageError(
            f"scores of {first.shape[1]} x {first.shape[0]} and {second.shape[1]} x "
            f"{second.shape[0]} seeds x items for {len(clusters)} cluster labels"
        )
    differences = first - second
    generator = np.random.default_rng([seed, 1])
    share = np.full(differences.shape[1], 1.0 / differences.shape[1])

    def drawn(weights: FloatArray) -> float:
        seeds = generator.multinomial(differences.shape[1], share)
        total = weights.sum() * differences.shape[1]
        return float(weights @ differences @ seeds / total)

    values = np.array([drawn(weights) for weights in resampled(clusters, draws, seed)])
    return bootstrap_difference(float(differences.mean()), values, len(set(clusters)))


def _table(scores: ArrayLike, what: str) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or not values.shape[0]:
        raise UsageError(f"expected a table with at least 2 {what}, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise UsageError("scores hold a value that is not finite")
    return values
