"""Mean scores of the groups of a breakdown, one arm beside the other."""

from __future__ import annotations

from collections.abc import Sequence

from manyeyes.errors import DataError
from manyeyes.evaluation.confidence.intervals import estimate_mean
from manyeyes.study.comparison.verdicts import SCALE
from manyeyes.study.record import Measure, StudyItem


def item_scores(items: Sequence[StudyItem], arm: str) -> list[float]:
    """Return the item scores of one arm.

    Raises:
        DataError: an item without an answer of this arm.
    """
    missing = [item for item in items if arm not in item.answers]
    if missing:
        first = missing[0]
        raise DataError(f"{first.benchmark} item {first.id!r} has no answer of arm {arm!r}")
    return [item.answers[arm].score for item in items]


def group_measures(
    items: Sequence[StudyItem], breakdown: str, arms: Sequence[str]
) -> dict[str, dict[str, Measure]]:
    """Return group -> arm -> mean score with its interval, groups by falling number of items."""
    groups: dict[str, list[StudyItem]] = {}
    for item in items:
        if breakdown in item.groups:
            groups.setdefault(item.groups[breakdown], []).append(item)
    ordered = sorted(groups.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return {name: {arm: _measure(group, arm) for arm in arms} for name, group in ordered}


def _measure(items: Sequence[StudyItem], arm: str) -> Measure:
    estimate = estimate_mean(item_scores(items, arm), [item.cluster for item in items])
    ci95 = None if estimate.ci95 is None else (estimate.ci95[0] * SCALE, estimate.ci95[1] * SCALE)
    return Measure("mean", estimate.mean * SCALE, estimate.n, ci95)
