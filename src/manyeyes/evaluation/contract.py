"""What evaluation passes around: an answer as it is scored, and a result.

data folder ─benchmark.items→ Items ─Predictor.answer→ texts ─benchmark.score→ BenchmarkResult
annotation files ─benchmark.read_files→ Items · predictions file ─benchmark.load→ Predictions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manyeyes.records import Score

CONSTANT = "the same answer to every question of a kind, without looking"
"""What a best constant answer is, in half a sentence."""

Prediction = str | Mapping[str, Any] | Sequence[Any]
"""An answer as it is scored: text, or the JSON value of a result layout that is not text."""


@dataclass(frozen=True)
class BenchmarkResult:
    """The scores of one set of predictions on one benchmark; the first score is the headline.

    ``n`` counts the items of the headline. ``per_item``: item id -> its own score, a share 0..1
    (CIDEr: on its own scale), for those items.
    ``notes``: what a reader must know to compare the figures, in plain sentences.
    """

    benchmark: str
    variant: str
    n: int
    scores: tuple[Score, ...]
    per_item: Mapping[str, float]
    parse_failures: int = 0
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> Score:
        """The score the benchmark is known by."""
        return self.scores[0]

    def to_json(self) -> dict[str, Any]:
        """One JSON object: metrics, intervals, breakdowns (of the headline unless named).

        ``counted``: metric -> the items behind it.
        """
        by: dict[str, dict[str, float]] = {}
        for score in self.scores:
            for breakdown, values in score.by.items():
                key = breakdown if score is self.headline else f"{breakdown}.{score.metric}"
                by[key] = dict(values)
        return {
            "benchmark": self.benchmark,
            "variant": self.variant,
            "n": self.n,
            "metrics": {score.metric: score.value for score in self.scores},
            "counted": {score.metric: score.n for score in self.scores},
            "ci95": {score.metric: list(score.ci95) for score in self.scores if score.ci95},
            "by": by,
            "parse_failures": self.parse_failures,
            "notes": list(self.notes),
        }
