"""What a study found, from its records alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.study.comparison.former import is_former, read_former
from manyeyes.study.comparison.notes import NOT_TRAINED, notes_of
from manyeyes.study.comparison.verdicts import Scores, Verdict, every_pair, judge
from manyeyes.study.record import StudyItem
from manyeyes.study.trials.inputs import digest_of
from manyeyes.study.trials.trial import (
    Asked,
    StudyPlan,
    Trial,
    arm_folder,
    load_plan,
    load_trial,
    trial_file,
)

BENCHMARK_TITLES = {
    "vqa": "Questions (VQA accuracy)",
    "rec": "Boxes (REC, IoU ≥ 0.5)",
    "pope": "Yes/no (POPE accuracy)",
    "caption": "Captions (CIDEr-D × 100)",
}
"""Titles of the benchmarks that a study asks by default; others are shown by name and metric."""


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its seeds: benchmark -> mean and standard deviation in points, and cost.

    ``title``: what readers call it. ``blind``: it was asked without the image. ``asked``: of an
    arm that was not trained.
    """

    name: str
    title: str
    recipe: str
    description: str
    means: Mapping[str, float]
    deviations: Mapping[str, float | None]
    trials: tuple[Trial, ...]
    blind: bool
    asked: Asked | None = None


@dataclass(frozen=True)
class Summary:
    """Everything that tables and reports show of a study."""

    plan: StudyPlan
    arms: tuple[ArmSummary, ...]
    verdicts: tuple[Verdict, ...]
    majority: Mapping[str, float]
    items: tuple[StudyItem, ...]
    scores: Scores
    notes: tuple[str, ...]

    def arm(self, name: str) -> ArmSummary:
        """Return the arm called ``name``; KeyError if there is none."""
        return {arm.name: arm for arm in self.arms}[name]

    @property
    def compared(self) -> list[ArmSummary]:
        """The arms that see the image."""
        return [arm for arm in self.arms if not arm.blind]

    @property
    def blind(self) -> dict[str, float]:
        """Title -> the best score without the image, where arms were asked so."""
        found = {}
        for name, title in self.plan.benchmarks.items():
            said = [t.blind[name].value for arm in self.arms for t in arm.trials if name in t.blind]
            if said:
                found[title] = max(said)
        return found


def benchmark_title(name: str) -> str:
    """Return how a benchmark is called in tables."""
    return BENCHMARK_TITLES.get(name, f"{name} ({get_benchmark(name).metric})")


def load_trials(folder: Path, plan: StudyPlan) -> list[Trial]:
    """Return the records of all arms and seeds of a study.

    Raises:
        DataError: one is missing, or was made from other inputs than the study's; names it.
    """
    trials = []
    for arm in plan.arms:
        for seed in plan.seed_numbers:
            path = trial_file(folder, arm_folder(arm), seed)
            trial = load_trial(path)
            if trial is None:
                raise DataError(
                    f"arm {arm!r}, seed {seed} is not finished; the command that began the study "
                    "continues it",
                    file=str(path),
                )
            _check_inputs(trial, plan, path)
            trials.append(trial)
    return trials


def _check_inputs(trial: Trial, plan: StudyPlan, path: Path) -> None:
    """A record of an earlier budget, say, is not taken for one of the study as it is now."""
    wanted = plan.inputs.get(trial.arm)
    if wanted is not None and digest_of(trial.inputs) != wanted[trial.seed - plan.first_seed]:
        raise DataError(
            f"arm {trial.arm!r}, seed {trial.seed} was trained for another study (budget, data, "
            "recipe or parts); the command that began this one runs it again",
            file=str(path),
        )


def summarize(folder: Path) -> Summary:
    """Read a study's records and judge them.

    Raises:
        DataError: records are missing, broken, or cannot be compared.
    """
    plan, items, trials = _records(folder)
    scores = Scores(trials, items)
    presented = plan.presentation
    challenger = None if presented is None else presented.challenger
    questions = every_pair(plan.compared, list(plan.benchmarks), plan.reference, challenger)
    return Summary(
        plan=plan,
        arms=tuple(_arm(name, scores, plan) for name in plan.arms),
        verdicts=tuple(judge(scores, questions)),
        majority={name: trials[0].majority[name].value for name in plan.benchmarks},
        items=tuple(items),
        scores=scores,
        notes=notes_of(plan, trials),
    )


def _records(folder: Path) -> tuple[StudyPlan, list[StudyItem], list[Trial]]:
    if is_former(folder):
        return read_former(folder)
    plan, items = load_plan(folder)
    return plan, items, load_trials(folder, plan)


def _arm(name: str, scores: Scores, plan: StudyPlan) -> ArmSummary:
    trials = tuple(scores.by_arm[name])
    means, deviations = {}, {}
    for benchmark in plan.benchmarks:
        values = [trial.measures[benchmark].value for trial in trials]
        means[benchmark] = statistics.fmean(values)
        deviations[benchmark] = statistics.stdev(values) if len(values) > 1 else None
    titles = {} if plan.presentation is None else plan.presentation.titles
    asked = trials[0].asked
    return ArmSummary(
        name=name,
        title=titles.get(name, name) + ("" if asked is None else f" ({NOT_TRAINED})"),
        recipe=plan.arms[name],
        description=trials[0].description,
        means=means,
        deviations=deviations,
        trials=trials,
        blind=name in plan.blind,
        asked=asked,
    )
