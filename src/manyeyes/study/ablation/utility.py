"""What an encoder is worth to a trained model: conditional utilization rate and information gap.

With A the score of the whole model and A_{-e} that with encoder e masked (arXiv 2507.03262):

    CUR(e) = (A - A_{-e}) / A           what e adds in the presence of the others, as a share of A
    IG     = max_e CUR(e) - min_e CUR(e)        how differently the encoders are used

The paper gives both in words; the formulas are read from them. A is the mean item score. Intervals,
verdicts and the margin are ours: a bootstrap over images, the same draws for all encoders.

A share of A needs right answers. Where more than 2.5 % of the draws hold none, as they do with up
to three images of many answered right, an interval could end anywhere, and there is none. Where all
draws give the same rate (no answer was lost, or every one) the interval is as wide as it must be
for images that were not seen: each of C images showed no change, so a share of up to
q = 1 - 0.025^(1/C) of them may change all the same (Clopper and Pearson). One answer of each such
image is q C / n of the n items, and q C / (n A) of the score.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from manyeyes.errors import UsageError
from manyeyes.evaluation.confidence.families import Effect, Interval, judge_family
from manyeyes.evaluation.confidence.intervals import (
    FloatArray,
    estimate_mean,
    no_spread,
    paired_difference,
    resampled,
    unseen_share,
)

DRAWS = 2000
MARGIN = 0.02
"""An encoder is redundant where its CUR surely lies within this share of the score."""
_MOST_EMPTY = 0.025
"""Share of draws without a right answer beyond which a rate has no interval."""

USEFUL, HARMFUL, REDUNDANT, OPEN = "useful", "harmful", "redundant", "undecided"
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Utility:
    """One masked part on one group of items; scores are shares 0..1.

    ``drop`` = A - A_{-e} with its interval and p (clustered t-test; adjusted by ``adjusted``; None
    for a single image); ``cur`` is None where the whole model gets nothing right, its interval also
    where it gets too little right to tell.
    """

    masked_score: float
    drop: float
    drop_ci95: Interval | None
    p: float | None
    cur: float | None
    cur_ci95: Interval | None
    verdict: str = OPEN


@dataclass(frozen=True)
class GroupUtility:
    """One group of items: the whole model's score, every masked part, and the information gap."""

    n: int
    clusters: int
    score: float
    score_ci95: Interval | None
    parts: Mapping[str, Utility]
    gap: float | None
    gap_ci95: Interval | None


def utilities(
    whole: Sequence[float],
    masked: Mapping[str, Sequence[float]],
    clusters: Sequence[str],
    *,
    compared: Sequence[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> GroupUtility:
    """Return the worth of every part from item scores in one order.

    Args:
        whole: scores of the whole model. masked: part -> scores with it masked. clusters: image of
            every item. compared: the parts (single encoders) that the gap is taken over.

    Raises:
        UsageError: numbers of scores that differ, or none.
    """
    a = np.asarray(whole, dtype=np.float64)
    table = {name: np.asarray(scores, dtype=np.float64) for name, scores in masked.items()}
    wrong = [name for name, scores in table.items() if scores.shape != a.shape]
    if wrong:
        raise UsageError(f"{wrong[0]}: {table[wrong[0]].size} scores for {a.size} items")
    score = estimate_mean(a, clusters)
    every = np.stack([a, *table.values()], axis=1)
    sums = np.array([weights @ every for weights in resampled(clusters, draws, seed)])
    rates = {name: _rates(sums[:, 0], sums[:, 1 + i]) for i, name in enumerate(table)}
    changes = unseen_share(score.clusters) * score.clusters / score.n
    unseen = changes / score.mean if score.mean else math.inf
    parts = {}
    for name, b in table.items():
        test = paired_difference(a, b, clusters)
        cur, interval = _with_interval(_rate(a, b), rates[name], unseen)
        found = test.estimate
        p = None if math.isnan(test.p) else test.p
        parts[name] = Utility(float(b.mean()), found.mean, found.ci95, p, cur, interval)
    chosen = [name for name in compared if name in table]
    gap, gap_ci95 = _gap(a, table, rates, chosen, unseen)
    return GroupUtility(score.n, score.clusters, score.mean, score.ci95, parts, gap, gap_ci95)


def _rate(a: FloatArray, b: FloatArray) -> float:
    return float((a.sum() - b.sum()) / a.sum()) if a.sum() else math.nan


def _rates(whole: FloatArray, rest: FloatArray) -> FloatArray:
    """CUR of every draw, from sums of scores ``[draws]``; NaN where all drawn items are wrong."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, (whole - rest) / whole, np.nan)


def _with_interval(
    value: float, drawn: FloatArray, unseen: float
) -> tuple[float | None, Interval | None]:
    """The rate (None: no right answer) and its interval; ``unseen``: see the module."""
    if math.isnan(value):
        return None, None
    if np.isnan(drawn).mean() > _MOST_EMPTY:
        return value, None
    low, high = np.percentile(drawn[~np.isnan(drawn)], [2.5, 97.5])
    if no_spread(high - low, high):
        low, high = value - unseen, value + unseen
    return value, (float(low), float(high))


def _gap(
    a: FloatArray,
    table: Mapping[str, FloatArray],
    rates: Mapping[str, FloatArray],
    compared: Sequence[str],
    unseen: float,
) -> tuple[float | None, Interval | None]:
    if len(compared) < 2:
        return None, None
    values = [_rate(a, table[name]) for name in compared]
    drawn = np.array([rates[name] for name in compared])
    differences = drawn.max(axis=0) - drawn.min(axis=0)
    gap, interval = _with_interval(max(values) - min(values), differences, 2.0 * unseen)
    return gap, interval and (max(0.0, interval[0]), interval[1])


def adjusted(found: Mapping[K, GroupUtility], margin: float = MARGIN) -> dict[K, GroupUtility]:
    """Return the groups with p adjusted after Holm over all of their parts, and verdicts.

    useful, harmful: the CUR's interval leaves 0 out and the adjusted p is below 0.05; redundant:
    the interval lies within ± ``margin``; undecided: more items are needed to tell.
    """
    every = {(key, name): part for key, e in found.items() for name, part in e.parts.items()}
    judged = judge_family(
        {place: Effect(part.cur or 0.0, part.cur_ci95, part.p) for place, part in every.items()}
    )
    parts: dict[K, dict[str, Utility]] = {key: {} for key in found}
    for (key, name), part in every.items():
        p, sign = judged[key, name].p, judged[key, name].sign
        verdict = OPEN if part.p is None else _verdict(part.cur_ci95, sign, margin)
        parts[key][name] = replace(part, p=None if part.p is None else p, verdict=verdict)
    return {key: replace(entry, parts=parts[key]) for key, entry in found.items()}


def _verdict(interval: Interval | None, sign: int, margin: float) -> str:
    if interval is None:
        return OPEN
    if -margin <= interval[0] and interval[1] <= margin:
        return REDUNDANT
    return {1: USEFUL, -1: HARMFUL, 0: OPEN}[sign]
