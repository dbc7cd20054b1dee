"""Two grades of the same items, paired: one metric at a time, with the test that fits it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manyeyes.evaluation.benchmarks.contract import Grade
from manyeyes.evaluation.confidence import intervals
from manyeyes.evaluation.confidence.intervals import FloatArray, McNemar
from manyeyes.inference.questions import Item
from manyeyes.records import Score

T_TEST, BOOTSTRAP = "paired t-test", "paired cluster bootstrap"


@dataclass(frozen=True)
class MetricComparison:
    """Model A minus model B on one metric, on the metric's scale.

    ``n`` items in ``clusters`` images. ``se`` is the standard error of the difference, clustered
    (bootstrap: the standard deviation over the draws); it, ``ci95`` and ``p`` are None where a
    single cluster leaves no spread to measure. ``p_holm`` is p adjusted for the family.
    ``correlation`` is that of the paired item values (None: no item values, or one never varies).
    ``detectable`` is the smallest true difference that as many items find with 80 % power at 5 %;
    ``items_required`` how many items would find one as large as the observed (None: it is 0). Both
    use σ_d = se · √n, so that they allow for clusters.
    ``mcnemar`` is there for values that are right or wrong.
    """

    metric: str
    test: str
    a: float
    b: float
    difference: float
    n: int
    clusters: int
    se: float | None
    ci95: tuple[float, float] | None
    p: float | None
    p_holm: float | None = None
    correlation: float | None = None
    detectable: float | None = None
    items_required: int | None = None
    mcnemar: McNemar | None = None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; null where there is no value."""
        found = {key: value for key, value in vars(self).items() if key not in ("metric", "ci95")}
        found["ci95"] = None if self.ci95 is None else list(self.ci95)
        found["mcnemar"] = None
        if self.mcnemar is not None:
            found["mcnemar"] = {**vars(self.mcnemar), "ignores_clusters": self.clusters < self.n}
        return found


@dataclass(frozen=True)
class PairedGrades:
    """Two grades of the same items."""

    items: list[Item]
    a: Grade
    b: Grade
    draws: int
    seed: int

    @property
    def names(self) -> list[str]:
        """Metrics of both grades, in order."""
        return [score.metric for score in self.a.scores if score.metric in _by_name(self.b)]

    def has_pairs(self, name: str) -> bool:
        """Whether the metric is the mean of item values over the same items for both."""
        first, second = _by_name(self.a)[name].per_item, _by_name(self.b)[name].per_item
        return bool(first) and first.keys() == second.keys()

    def comparable(self, name: str) -> bool:
        """Whether the metric can be computed again on draws of items."""
        return all(
            bool(_by_name(grade)[name].per_item) or name in _corpus_names(grade)
            for grade in (self.a, self.b)
        )

    def t_test(self, name: str) -> MetricComparison:
        """Paired difference of a mean of item values."""
        first, second = _by_name(self.a)[name].per_item, _by_name(self.b)[name].per_item
        counted = [item for item in self.items if item.id in first]
        a = np.array([first[item.id] for item in counted])
        b = np.array([second[item.id] for item in counted])
        result = intervals.paired_difference(a, b, [item.cluster for item in counted])
        estimate = result.estimate
        found = MetricComparison(
            metric=name,
            test=T_TEST,
            a=float(a.mean()),
            b=float(b.mean()),
            difference=estimate.mean,
            n=estimate.n,
            clusters=estimate.clusters,
            se=_number(estimate.se),
            ci95=estimate.ci95,
            p=_number(result.p),
            correlation=_number(intervals.correlation(a, b)),
            mcnemar=_right_or_wrong(a, b),
        )
        return _with_power(found)

    def bootstrap(self, names: Sequence[str]) -> dict[str, MetricComparison]:
        """Difference of metrics that have no item values to pair, on the same draws."""
        clusters = [item.cluster for item in self.items]
        if not names:
            return {}
        of_a, of_b = (_statistics(grade, names, self.items) for grade in (self.a, self.b))
        ones, count = np.ones(len(self.items)), len(set(clusters))
        drawn: list[intervals.BootstrapDifference | None] = [None] * len(names)
        if count > 1:
            drawn = [
                *intervals.paired_bootstraps(of_a, of_b, clusters, draws=self.draws, seed=self.seed)
            ]
        return {
            name: _with_power(
                MetricComparison(
                    metric=name,
                    test=BOOTSTRAP,
                    a=a,
                    b=b,
                    difference=a - b,
                    n=_by_name(self.a)[name].n,
                    clusters=count,
                    se=None if found is None else _number(found.se),
                    ci95=None if found is None else found.ci95,
                    p=None if found is None else found.p,
                )
            )
            for name, a, b, found in zip(names, of_a(ones), of_b(ones), drawn, strict=True)
        }


def _statistics(
    grade: Grade, names: Sequence[str], items: Sequence[Item]
) -> Callable[[FloatArray], list[float]]:
    """The named metrics of a grade as a function of item weights."""
    corpus, scores = grade.corpus, _by_name(grade)
    places = {name: place for place, name in enumerate(_corpus_names(grade))}
    means = {name: _mean(scores[name], items) for name in names if name not in places}

    def values(weights: FloatArray) -> list[float]:
        whole = corpus.values(weights) if corpus is not None and places else ()
        return [means[n](weights) if n in means else float(whole[places[n]]) for n in names]

    return values


def _mean(score: Score, items: Sequence[Item]) -> intervals.Statistic:
    """The mean over those items that the metric counts; 0 for a draw without any."""
    counted = np.array([float(item.id in score.per_item) for item in items])
    values = np.array([score.per_item.get(item.id, 0.0) for item in items])

    def mean(weights: FloatArray) -> float:
        total = float(weights @ counted)
        return float(weights @ values) / total if total else 0.0

    return mean


def _with_power(found: MetricComparison) -> MetricComparison:
    if not found.se:
        return found
    sd = found.se * math.sqrt(found.n)
    detectable = intervals.minimum_detectable_difference(sd, found.n)
    required = intervals.required_items(sd, found.difference) if found.difference else None
    return replace(found, detectable=detectable, items_required=required)


def _right_or_wrong(a: FloatArray, b: FloatArray) -> McNemar | None:
    """McNemar's test where all values are 0 or one full mark (1 or 100)."""
    for mark in (1.0, 100.0):
        if np.isin(a, (0.0, mark)).all() and np.isin(b, (0.0, mark)).all():
            return intervals.mcnemar(a / mark, b / mark)
    return None


def _by_name(grade: Grade) -> dict[str, Score]:
    return {score.metric: score for score in grade.scores}


def _corpus_names(grade: Grade) -> tuple[str, ...]:
    return grade.corpus.names if grade.corpus is not None else ()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
