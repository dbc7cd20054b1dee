"""Better, worse, or not separable: every pair of arms on every benchmark, from paired scores.

Seeds and items are crossed (see ``evaluation.confidence.crossed``); p values are adjusted for the
whole family of pairs x benchmarks (Holm). A difference is claimed where the adjusted p is below
0.05.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.evaluation.confidence.crossed import (
    CrossedDifference,
    SeedNoise,
    crossed_difference,
    seed_noise,
)
from manyeyes.evaluation.confidence.families import (
    ALPHA,
    Effect,
    Judged,
    alone_only,
    alone_sentence,
    judge_family,
)
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.lines import with_minus
from manyeyes.study.record import StudyItem
from manyeyes.study.trials.trial import Trial

BETTER, WORSE, OPEN = "better", "worse", "not separable"
SCALE = 100.0
"""Item scores (shares, CIDEr-D per caption) to points."""

POWER = 0.8
_WORDS = {1: BETTER, -1: WORSE, 0: OPEN}


@dataclass(frozen=True)
class Pairing:
    """One comparison to make: challenger minus reference on the items of a benchmark.

    ``group``: only the items of one group of a breakdown, as ("question_type", "count").
    """

    challenger: str
    reference: str
    benchmark: str
    group: tuple[str, str] | None = None


@dataclass(frozen=True)
class Verdict:
    """What the records say to a question; differences in points.

    ``verdict`` is the challenger's. ``p`` is adjusted for the family of ``family`` comparisons.
    ``detectable``: smallest true difference found with 80 % power at the family's strictest level
    (0.05 over its size). ``seeds_required`` and ``items_required``: what would find the observed
    difference with that power, each alone; None: beyond reach, or nothing to find. Where no score
    varies nothing is known of what could be found: all three are None, as is ``ci95``.
    """

    question: Pairing
    verdict: str
    difference: float
    ci95: tuple[float, float] | None
    se: float
    df: float
    p: float
    p_alone: float
    family: int
    seeds: int
    n: int
    clusters: int
    detectable: float | None
    seeds_required: int | None
    items_required: int | None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; null where there is no value."""
        found = {k: v for k, v in vars(self).items() if k != "question"}
        found = {**vars(self.question), **found}
        return {k: None if _lost(v) else v for k, v in found.items()}


@dataclass(frozen=True)
class _Scored:
    """What all arms got for some items: tables ``[S, n]`` in points, and the noise of seeds."""

    clusters: list[str]
    tables: Mapping[str, FloatArray]
    noise: SeedNoise | None


class Scores:
    """Item scores of all trials: arm x seed x item, on the items that every trial scored.

    Raises:
        DataError: trials that answered other questions, or an arm without trials.
    """

    def __init__(self, trials: Sequence[Trial], items: Sequence[StudyItem]) -> None:
        self.items = list(items)
        self.by_arm: dict[str, list[Trial]] = {}
        for trial in sorted(trials, key=lambda trial: trial.seed):
            self.by_arm.setdefault(trial.arm, []).append(trial)
        _check_comparable(self.by_arm, {item.benchmark for item in self.items})
        self._scored: dict[tuple[str, tuple[str, str] | None], _Scored] = {}

    def counted(self, benchmark: str, group: tuple[str, str] | None = None) -> list[StudyItem]:
        """The items of a benchmark (and group) that every trial has a score for."""
        every = [trial.answers[benchmark] for trials in self.by_arm.values() for trial in trials]
        return [
            item
            for item in self.items
            if item.benchmark == benchmark
            and (group is None or item.groups.get(group[0]) == group[1])
            and all(item.id in answers for answers in every)
        ]

    def difference(self, question: Pairing) -> CrossedDifference:
        """Answer one question, before any adjustment.

        Raises:
            UsageError: an unknown arm. DataError: no item of the benchmark or group.
        """
        for arm in (question.challenger, question.reference):
            if arm not in self.by_arm:
                raise UsageError(f"no arm {arm!r}{nearest(arm, self.by_arm)}")
        key = question.benchmark, question.group
        if key not in self._scored:
            self._scored[key] = self._score(*key)
        scored = self._scored[key]
        a, b = scored.tables[question.challenger], scored.tables[question.reference]
        return crossed_difference(a, b, scored.clusters, scored.noise)

    def _score(self, benchmark: str, group: tuple[str, str] | None) -> _Scored:
        items = self.counted(benchmark, group)
        if not items:
            what = benchmark + (f" {group[1]}" if group else "")
            raise DataError(f"the study has no questions of {what}")
        tables = {
            arm: SCALE * np.array([[t.answers[benchmark][i.id].score for i in items] for t in runs])
            for arm, runs in self.by_arm.items()
        }
        return _Scored([i.cluster for i in items], tables, seed_noise(list(tables.values())))


def every_pair(
    arms: Sequence[str],
    benchmarks: Sequence[str],
    reference: str | None = None,
    challenger: str | None = None,
) -> list[Pairing]:
    """Return the questions of a study: later arm against earlier.

    All against ``reference`` where there is one, or ``challenger`` against all.

    Raises:
        UsageError: a reference that is no arm.
    """
    if reference is not None and reference not in arms:
        raise UsageError(f"--reference {reference!r} is no arm{nearest(reference, arms)}")
    if challenger is not None:
        pairs = [(challenger, arm) for arm in arms if arm != challenger]
    elif reference is not None:
        pairs = [(arm, reference) for arm in arms if arm != reference]
    else:
        pairs = [(later, sooner) for sooner, later in itertools.combinations(arms, 2)]
    return [Pairing(a, b, name) for a, b in pairs for name in benchmarks]


def judge(scores: Scores, questions: Sequence[Pairing]) -> list[Verdict]:
    """Return the verdict on every question; all of them are one family."""
    return judge_differences({question: scores.difference(question) for question in questions})


def judge_differences(found: Mapping[Pairing, CrossedDifference]) -> list[Verdict]:
    """Return the verdict on every difference; all of them are one family."""
    judged = judge_family({q: Effect(d.difference, d.ci95, d.p) for q, d in found.items()})
    return [_verdict(q, found[q], one, len(found)) for q, one in judged.items()]


def _verdict(question: Pairing, found: CrossedDifference, judged: Judged, family: int) -> Verdict:
    claimed = judged.sign != 0
    spread, level = found.spread, ALPHA / family
    if found.ci95 is None:
        spread = None
    items = None
    if spread is not None and not claimed:
        times = spread.times_required(found.difference, level, POWER)
        items = None if times is None else times * found.n
    return Verdict(
        question=question,
        verdict=_WORDS[judged.sign],
        difference=found.difference,
        ci95=found.ci95,
        se=found.se,
        df=found.df,
        p=judged.p,
        p_alone=found.p,
        family=family,
        seeds=found.seeds,
        n=found.n,
        clusters=found.clusters,
        detectable=spread.detectable(level, POWER) if spread else None,
        seeds_required=None
        if spread is None or claimed
        else spread.seeds_required(found.difference, level, POWER),
        items_required=items,
    )


def _check_comparable(by_arm: Mapping[str, Sequence[Trial]], benchmarks: set[str]) -> None:
    trials = [trial for group in by_arm.values() for trial in group]
    if not trials:
        raise DataError("the study holds no finished trial")
    first = trials[0]
    for trial in trials:
        for benchmark in benchmarks:
            if first.exam.get(benchmark) != trial.exam.get(benchmark):
                raise DataError(
                    f"arms {first.arm!r} and {trial.arm!r} (seed {trial.seed}) did not answer the "
                    f"same questions of {benchmark!r}: they cannot be compared; run the study again"
                )
    wanted = [trial.seed for trial in by_arm[first.arm]]
    for arm, group in by_arm.items():
        seeds = [trial.seed for trial in group]
        if seeds != wanted:
            raise DataError(
                f"arm {arm!r} has seeds {seeds}, {first.arm!r} has {wanted}: run the study again "
                "to complete it"
            )


def _lost(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def figure(verdict: Verdict) -> str:
    """Return ``+3.1 [0.2, 6.0]``: the difference in points and its 95 % interval."""
    text = f"{verdict.difference:+.1f}"
    if verdict.ci95 is not None:
        text += f" [{verdict.ci95[0]:.1f}, {verdict.ci95[1]:.1f}]"
    return with_minus(text)


def needed(verdict: Verdict) -> str:
    """Return what would separate two arms that are not, or an empty text."""
    if verdict.verdict != OPEN:
        return ""
    parts = []
    if verdict.seeds_required is not None:
        parts.append(f"{verdict.seeds_required:,} seeds")
    if verdict.items_required is not None:
        parts.append(f"{verdict.items_required:,} questions")
    return " or ".join(parts)


def alone(verdicts: Sequence[Verdict]) -> str:
    """Return why intervals leave 0 out where arms are not separable, or an empty text."""
    count = sum(alone_only(v.ci95, 0) for v in verdicts if v.verdict == OPEN)
    return alone_sentence(count, len(verdicts), f"the verdict is “{OPEN}”")


def by_pair(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], dict[str, Verdict]]:
    """Return (challenger, reference) -> benchmark -> verdict, in order."""
    found: dict[tuple[str, str], dict[str, Verdict]] = {}
    for verdict in verdicts:
        question = verdict.question
        pair = found.setdefault((question.challenger, question.reference), {})
        pair[question.benchmark] = verdict
    return found
