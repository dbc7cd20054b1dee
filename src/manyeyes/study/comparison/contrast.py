"""The question of a study: does the challenger beat the reference? Answered from paired items.

A difference is claimed only where its 95 % interval does not cover 0 and its p value, adjusted for
the number of benchmarks (Holm), is below 0.05. Where all items differ by the same there is no
interval, and p alone decides. Intervals come from the items (clustered by image), so they say
nothing about other training seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from manyeyes.errors import DataError
from manyeyes.evaluation.confidence.families import claimed_sign, holm
from manyeyes.evaluation.confidence.intervals import estimate_mean, paired_difference
from manyeyes.study.comparison.constant import below_constant
from manyeyes.study.record import Measure, Study, StudyItem

SCALE = 100.0
"""Item scores (shares, CIDEr-D per caption) to the scale of scores."""

MAJORITY = "majority"
"""The baseline arm that gives the best constant answer."""


@dataclass(frozen=True)
class Contrast:
    """Challenger minus reference on one benchmark, in points; ``p`` is adjusted after Holm."""

    benchmark: str
    difference: float
    ci95: tuple[float, float] | None
    p: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where a difference is claimed, else 0."""
        return claimed_sign(self.difference, self.ci95, self.p)


def contrasts(study: Study, items: Sequence[StudyItem]) -> list[Contrast]:
    """Return the paired difference of the study's two arms on every benchmark, in order.

    Raises:
        DataError: an item lacks an answer of one of the two arms.
    """
    found = [c for name in study.benchmarks if (c := _contrast(study, items, name)) is not None]
    adjusted = holm({c.benchmark: c.p for c in found})
    return [
        Contrast(c.benchmark, c.difference, c.ci95, adjusted.get(c.benchmark, math.nan), c.n)
        for c in found
    ]


def _contrast(study: Study, items: Sequence[StudyItem], benchmark: str) -> Contrast | None:
    chosen = [item for item in items if item.benchmark == benchmark]
    if not chosen:
        return None
    a, b = (item_scores(chosen, arm) for arm in study.contrast)
    result = paired_difference(a, b, [item.cluster for item in chosen])
    estimate = result.estimate
    ci95 = None if estimate.ci95 is None else (estimate.ci95[0] * SCALE, estimate.ci95[1] * SCALE)
    return Contrast(benchmark, estimate.mean * SCALE, ci95, result.p, estimate.n)


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


def verdict(study: Study, found: Sequence[Contrast]) -> str:
    """Return the study's result as a few sentences, with figures and intervals.

    First stand the benchmarks on which no contestant is worth more than a constant answer.
    """
    return " ".join(filter(None, (_constant_warning(study), _difference(study, found))))


def _constant_warning(study: Study) -> str:
    constants = [arm for arm in study.arms if arm.name == MAJORITY]
    return below_constant(
        {
            title: (
                [arm.measures[name].value for arm in study.contestants],
                constant.measures[name].value,
            )
            for constant in constants
            for name, title in study.benchmarks.items()
            if all(name in arm.measures for arm in (*study.contestants, constant))
        }
    )


def _difference(study: Study, found: Sequence[Contrast]) -> str:
    challenger, reference = (study.arm(name).title for name in study.contrast)
    better = [c for c in found if c.sign > 0]
    worse = [c for c in found if c.sign < 0]
    open_ones = [c for c in found if c.sign == 0]
    if not better and not worse:
        return (
            f"No difference between {challenger} and {reference} can be claimed here: "
            f"{_figures(study, open_ones)}."
        )
    parts = []
    if better:
        parts.append(f"{challenger} beats {reference} on {_figures(study, better)}")
    if worse:
        start = "and loses" if better else f"{challenger} loses to {reference}"
        parts.append(f"{start} on {_figures(study, worse)}")
    sentence = ", ".join(parts) + "."
    if open_ones:
        sentence += f" No difference can be claimed on {_figures(study, open_ones)}."
    return sentence


def _figures(study: Study, found: Sequence[Contrast]) -> str:
    """``VQA by 3.1 points [0.2, 6.0] and ...``"""
    parts = [f"{study.benchmarks[c.benchmark]} {figure(c)}" for c in found]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def figure(contrast: Contrast) -> str:
    """Return ``+3.1 [0.2, 6.0]``: the difference in points and its 95 % interval."""
    text = f"{contrast.difference:+.1f}".replace("-", "−")
    if contrast.ci95 is None:
        return text
    low, high = (f"{bound:.1f}".replace("-", "−") for bound in contrast.ci95)
    return f"{text} [{low}, {high}]"
