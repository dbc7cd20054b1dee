"""Two sets of predictions on the same items: which is better, by how much, and how sure is that?

    predictions A, B ─benchmark.grade→ two grades ─pair by item→ a difference for every metric

A metric that is a mean of item values is compared through d_i = a_i - b_i with a standard error
clustered by image and a t-test; every other metric (CIDEr, F1, AP, ...) through a paired bootstrap
of clusters, both models recomputed on the same draws. See `intervals` for the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manyeyes.errors import UsageError, nearest
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.confidence.families import (
    Effect,
    alone_only,
    alone_sentence,
    judge_family,
)
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.tables.paired_grades import MetricComparison, PairedGrades
from manyeyes.inference.questions import Item

DRAWS = 10_000
_UNCLAIMED = "p (Holm) is not below 0.05"
FEW_CLUSTERS = 30
"""With fewer, 1.96 standard errors are too narrow an interval; the t-test allows for that."""


@dataclass(frozen=True)
class Comparison:
    """All metrics of two sets of predictions, the headline first.

    ``family`` names the metrics whose p values were adjusted together (Holm). ``draws`` and
    ``seed`` are those of the bootstrap. ``notes``: what a reader must know, in plain sentences.
    """

    benchmark: str
    variant: str
    metrics: tuple[MetricComparison, ...]
    family: tuple[str, ...]
    draws: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> MetricComparison:
        """The metric the benchmark is known by, or the first of those chosen."""
        return self.metrics[0]

    def to_json(self) -> dict[str, Any]:
        """One JSON object: a difference with interval and tests for every metric."""
        return {
            "benchmark": self.benchmark,
            "variant": self.variant,
            "metrics": {metric.metric: metric.to_json() for metric in self.metrics},
            "family": {"correction": "Holm", "metrics": list(self.family)},
            "bootstrap": {"draws": self.draws, "seed": self.seed},
            "notes": list(self.notes),
        }


def compare_predictions(
    benchmark: Benchmark,
    items: Sequence[Item],
    predictions_a: Mapping[str, Prediction],
    predictions_b: Mapping[str, Prediction],
    *,
    variant: str | None = None,
    box_style: str = "shikra",
    allow_missing: bool = False,
    metrics: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of predictions by item id on the same items.

    Args:
        benchmark, items, variant, box_style, allow_missing: as in ``Benchmark.score``.
        metrics: the family of metrics to compare, all of the benchmark's by default. A family that
            was chosen before looking pays a smaller price for multiple tests.
        draws, seed: of the bootstrap; metrics that take long bound the draws.

    Raises:
        UsageError: an unknown variant or metric, or no items.
        DataError: predictions for unknown ids, or missing ones unless ``allow_missing``.
    """
    grades = [
        benchmark.grade(
            benchmark.answers(
                items, given, variant=variant, box_style=box_style, allow_missing=allow_missing
            )
        )
        for given in (predictions_a, predictions_b)
    ]
    draws = min(grade.corpus.draws(draws) if grade.corpus else draws for grade in grades)
    pair = PairedGrades(list(items), grades[0], grades[1], draws, seed)
    chosen = _chosen(pair, metrics, benchmark.name)
    bootstrapped = pair.bootstrap([name for name in chosen if not pair.has_pairs(name)])
    compared = [pair.t_test(n) if pair.has_pairs(n) else bootstrapped[n] for n in chosen]
    tested = {m.metric: Effect(m.difference, m.ci95, m.p) for m in compared if m.p is not None}
    judged = judge_family(tested)
    adjusted = {name: one.p for name, one in judged.items()}
    done = tuple(replace(m, p_holm=adjusted.get(m.metric)) for m in compared)
    left_out = [name for name in pair.names if not pair.comparable(name)]
    notes = _notes(done, left_out if metrics is None else [])
    alone = sum(alone_only(tested[name].ci95, one.sign) for name, one in judged.items())
    notes += tuple(filter(None, [alone_sentence(alone, len(tested), _UNCLAIMED)]))
    family = tuple(tested)
    name = grades[0].rule or benchmark.checked_variant(variant)
    return Comparison(benchmark.name, name, done, family, draws, seed, notes)


def _chosen(pair: PairedGrades, metrics: Sequence[str] | None, benchmark: str) -> list[str]:
    known = [name for name in pair.names if pair.comparable(name)]
    for name in metrics or ():
        if name not in known:
            hint = nearest(name, known)
            raise UsageError(
                f"{benchmark!r} has no metric {name!r} to compare{hint}: {', '.join(known)}"
            )
    return list(dict.fromkeys(metrics)) if metrics else known


def _notes(metrics: Sequence[MetricComparison], left_out: Sequence[str]) -> tuple[str, ...]:
    notes = []
    if any(m.mcnemar is not None and m.clusters < m.n for m in metrics):
        notes.append(
            "several items share an image, which McNemar's test ignores: its p is too small where "
            "they go right and wrong together; prefer the clustered p"
        )
    few = min(m.clusters for m in metrics) if metrics else FEW_CLUSTERS
    if few < FEW_CLUSTERS:
        notes.append(
            f"only {few} clusters (images): intervals are too narrow, and of the p values only "
            "those of the t-test allow for it"
        )
    if left_out:
        notes.append(f"not compared, being no function of items: {', '.join(left_out)}")
    return tuple(notes)
