"""Item scores to metrics with intervals and breakdowns; shared by the graders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from manyeyes.evaluation.confidence.intervals import (
    FloatArray,
    cluster_bootstraps,
    estimate_mean,
    share_interval,
)
from manyeyes.inference.questions import Item
from manyeyes.records import Score

PERCENT = 100.0
"""The scale of shares."""

DRAWS = 1000
"""Of the bootstrap behind the interval of a corpus metric."""


@dataclass(frozen=True)
class Corpus:
    """Metrics that are no means over items: their names, and their values for item weights ``[n]``.

    A weight says how often its item counts: 0 leaves it out, 2 counts it twice (bootstrap).
    ``most_draws`` bounds the draws of a bootstrap where one value takes long.
    """

    names: tuple[str, ...]
    values: Callable[[FloatArray], Sequence[float]]
    most_draws: int | None = None

    def draws(self, wanted: int) -> int:
        """As many bootstrap draws as wanted, or as are affordable."""
        return min(wanted, self.most_draws or wanted)


def mean_score(
    metric: str, values: Sequence[float], items: Sequence[Item], *, scale: float = PERCENT
) -> Score:
    """A mean of item scores times ``scale``, its interval clustered by image, and breakdowns.

    A share (shown in percent) that is 0 or 1 for all items has the interval of such a share. Any
    other mean of equal scores has none: nothing varies that could be measured.
    """
    estimate = estimate_mean(values, [item.cluster for item in items])
    interval = share_interval(estimate) if scale == PERCENT else estimate.ci95
    ci95 = None if interval is None else _scaled(interval, scale)
    grouped = by_group(items, lambda chosen: scale * sum(values[i] for i in chosen) / len(chosen))
    own = {item.id: scale * value for item, value in zip(items, values, strict=True)}
    return Score("", metric, scale * estimate.mean, len(items), ci95, by=grouped, per_item=own)


def corpus_scores(corpus: Corpus, items: Sequence[Item]) -> list[Score]:
    """The corpus metrics of all items, with bootstrap intervals clustered by image, and breakdowns.

    For a breakdown the items outside the group weigh nothing.
    """

    def of_positions(place: int, chosen: list[int]) -> float:
        weights = np.zeros(len(items))
        weights[chosen] = 1.0
        return corpus.values(weights)[place]

    clusters = [item.cluster for item in items]
    intervals: Sequence[tuple[float, float] | None] = [None] * len(corpus.names)
    if len(set(clusters)) > 1:
        intervals = cluster_bootstraps(corpus.values, clusters, draws=corpus.draws(DRAWS))
    whole = corpus.values(np.ones(len(items)))
    return [
        Score("", name, value, len(items), interval, by=by_group(items, partial(of_positions, i)))
        for i, (name, value, interval) in enumerate(
            zip(corpus.names, whole, intervals, strict=True)
        )
    ]


def most_frequent(counts: Counter[str]) -> str:
    """The text that was counted most often (ties: first in the alphabet)."""
    return min(counts, key=lambda text: (-counts[text], text))


def majority_candidate(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The candidate that is right most often, everywhere (ties: the first of the candidates)."""
    counts = Counter(item.references[0].lower() for item in counted)
    return [max(item.candidates, key=lambda said: counts[said.lower()]) for item in items]


def by_group(
    items: Sequence[Item], value: Callable[[list[int]], float]
) -> dict[str, dict[str, float]]:
    """breakdown -> group -> ``value`` of the positions of its items.

    Groups stand in the order of the alphabet, those that are whole numbers by value.
    """
    positions: dict[str, dict[str, list[int]]] = {}
    for index, item in enumerate(items):
        for breakdown, group in item.groups.items():
            positions.setdefault(breakdown, {}).setdefault(group, []).append(index)
    return {
        breakdown: {group: value(chosen) for group, chosen in _in_order(groups)}
        for breakdown, groups in positions.items()
    }


def _in_order(groups: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    def place(entry: tuple[str, list[int]]) -> tuple[bool, int, str]:
        number = entry[0].isdecimal()
        return not number, int(entry[0]) if number else 0, entry[0]

    return sorted(groups.items(), key=place)


def _scaled(interval: tuple[float, float], scale: float) -> tuple[float, float]:
    return scale * interval[0], scale * interval[1]
