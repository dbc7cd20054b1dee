"""What a study found, from its records alone, and how it is written: JSON, Markdown, words."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.study.comparison.constant import below_constant, in_words
from manyeyes.study.comparison.former import is_former, read_former
from manyeyes.study.comparison.honesty import blind_solvable, few_right, seen_pictures
from manyeyes.study.comparison.verdicts import (
    BETTER,
    OPEN,
    WORSE,
    Scores,
    Verdict,
    every_pair,
    judge,
)
from manyeyes.study.record import StudyItem
from manyeyes.study.trials.inputs import digest_of
from manyeyes.study.trials.trial import (
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

FEW_SEEDS = 3
_SAME = {
    "commit": "run with different commits",
    "precision": "trained in different precision",
    "device": "trained on different devices",
}
"""What a trial's environment says, and what a study notes where trials do not agree."""

_COMMIT = 12
"""Characters of a commit that are shown."""

_SAID = 4
_RARE = ("first_seed", "blind", "presentation", "seen")


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its seeds: benchmark -> mean and standard deviation in points, and cost.

    ``title``: what readers call it. ``blind``: it was asked without the image.
    """

    name: str
    title: str
    recipe: str
    description: str
    means: Mapping[str, float]
    deviations: Mapping[str, float | None]
    trials: tuple[Trial, ...]
    blind: bool


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
        notes=_notes(plan, trials),
    )


def _records(folder: Path) -> tuple[StudyPlan, list[StudyItem], list[Trial]]:
    if is_former(folder):
        return read_former(folder)
    plan, items = load_plan(folder)
    return plan, items, load_trials(folder, plan)


def results_of(summary: Summary) -> dict[str, Any]:
    """Return ``results.json``. Only what stands under ``measured`` depends on the machine."""
    return {
        "study": _plan_json(summary.plan),
        "arms": {arm.name: _arm_json(arm) for arm in summary.arms},
        "majority": dict(summary.majority),
        **({"blind": blind} if (blind := _blind(summary)) else {}),
        "verdicts": [verdict.to_json() for verdict in summary.verdicts],
        "family": {"correction": "Holm", "comparisons": len(summary.verdicts), "alpha": 0.05},
        "headline": headline(summary),
        "notes": list(summary.notes),
    }


def _plan_json(plan: StudyPlan) -> dict[str, Any]:
    """The settings, without what says nothing: hashes, and what only few studies have."""
    said = {key: value for key, value in asdict(plan).items() if key != "inputs"}
    return {key: value for key, value in said.items() if value or key not in _RARE}


def markdown(summary: Summary) -> str:
    """Return the verdicts, scores and costs as Markdown tables."""
    titles = summary.plan.benchmarks
    lines = ["# Verdicts", "", headline(summary), ""]
    lines.append("| compared | " + " | ".join(titles.values()) + " |")
    lines.append("|---" * (len(titles) + 1) + "|")
    for pair, found in by_pair(summary.verdicts).items():
        cells = [f"{found[name].verdict} {figure(found[name])}" for name in titles]
        lines.append(f"| {pair[0]} − {pair[1]} | " + " | ".join(cells) + " |")
    lines += ["", f"Differences in points with 95 % intervals over {_over(summary)}.", ""]
    lines += [f"- {note}" for note in summary.notes]
    lines += [
        "",
        "# Scores and cost",
        "",
        "| arm | " + " | ".join([*titles.values(), *COSTS]) + " |",
    ]
    lines.append("|---" + "|---:" * (len(titles) + len(COSTS)) + "|")
    for arm in summary.arms:
        cells = [score_text(arm, name) for name in titles]
        lines.append(f"| {arm.name} | " + " | ".join([*cells, *cost_cells(arm)]) + " |")
    constant = [f"{summary.majority[name]:.1f}" for name in titles]
    lines.append("| best constant answer | " + " | ".join([*constant, *[""] * len(COSTS)]) + " |")
    blind = _blind(summary)
    if blind:
        cells = [f"{blind[title]:.1f}" if title in blind else "" for title in titles.values()]
        lines.append(
            "| best without the image | " + " | ".join([*cells, *[""] * len(COSTS)]) + " |"
        )
    return "\n".join(lines) + "\n"


COSTS = (
    "visual tokens",
    "parameters",
    "trained",
    "GFLOP per sample",
    "encode ms",
    "train s",
    "peak GiB",
)
"""Titles of `cost_cells`."""


def cost_cells(arm: ArmSummary) -> list[str]:
    """Return what an arm costs, in the order of ``COSTS``; measured values are medians of seeds."""
    price, measured = arm.trials[0].price, [t.measured for t in arm.trials if t.measured]
    if price is None or not measured:
        return [""] * len(COSTS)
    return [
        f"{price.visual_tokens:,}",
        _short(price.parameters),
        _short(price.trained),
        f"{price.operations_per_sample / 1e9:.3g}",
        f"{statistics.median(m.encode_ms for m in measured):.2g}",
        f"{statistics.median(m.train_seconds for m in measured):.3g}",
        f"{max(m.peak_gib for m in measured):.2f}",
    ]


def score_text(arm: ArmSummary, benchmark: str) -> str:
    """Return ``61.2 ± 0.8``: mean and standard deviation over seeds.

    Of a single seed ``61.2 (58.2–64.2)``: the score with its 95 % interval over questions.
    """
    deviation, ci95 = arm.deviations[benchmark], arm.trials[0].measures[benchmark].ci95
    text = f"{arm.means[benchmark]:.1f}"
    if deviation is not None:
        return f"{text} ± {deviation:.1f}"
    return text if ci95 is None else f"{text} ({ci95[0]:.1f}–{ci95[1]:.1f})".replace("-", "−")


def headline(summary: Summary) -> str:
    """Return the study's result in a few sentences: what is separable, and how much is not.

    First stand the benchmarks on which no arm is worth more than a constant answer or is hardly
    ever right; last, what is answered without the images, and which pictures were trained on.
    """
    presented = summary.plan.presentation
    found = _separable(summary) if presented is None else _about(summary, presented.challenger)
    said = (
        constant_warning(summary),
        few_right(_best_right(summary)),
        found,
        blind_solvable(_blind(summary)),
        seen_pictures(summary.plan.seen),
    )
    return " ".join(filter(None, said))


def _best_right(summary: Summary) -> dict[str, tuple[float, int]]:
    """Title -> right answers of the best arm and questions, of benchmarks scored in shares."""
    found = {}
    for name, title in summary.plan.benchmarks.items():
        trials = [trial for arm in summary.arms for trial in arm.trials]
        if all(trial.measures[name].metric != "CIDEr" for trial in trials):
            right = [
                statistics.fmean(sum(s.score for s in t.answers[name].values()) for t in arm.trials)
                for arm in summary.arms
                if not arm.blind
            ]
            found[title] = (max(right), trials[0].measures[name].n)
    return found


def _blind(summary: Summary) -> dict[str, float]:
    """Title -> the best score without the image, where arms were asked so."""
    found = {}
    for name, title in summary.plan.benchmarks.items():
        said = [t.blind[name].value for arm in summary.arms for t in arm.trials if name in t.blind]
        if said:
            found[title] = max(said)
    return found


def constant_warning(summary: Summary) -> str:
    """Return a sentence about benchmarks where all arms are below the constant answer, or ""."""
    return below_constant(
        {
            title: ([arm.means[name] for arm in summary.compared], summary.majority[name])
            for name, title in summary.plan.benchmarks.items()
        }
    )


def _separable(summary: Summary) -> str:
    claimed = [v for v in summary.verdicts if v.verdict != OPEN]
    if not claimed:
        return f"None of the {len(summary.verdicts)} comparisons is separable at this budget."
    claimed.sort(key=lambda v: -abs(v.difference) / (v.se or 1.0))
    said = [
        f"{v.question.challenger} is {v.verdict} than {v.question.reference} on "
        f"{summary.plan.benchmarks[v.question.benchmark]} {figure(v)}"
        for v in claimed[:_SAID]
    ]
    left = len(summary.verdicts) - len(claimed)
    more = f", and {len(claimed) - _SAID} more in the table" if len(claimed) > _SAID else ""
    rest = f" {left} of {len(summary.verdicts)} comparisons are not separable at this budget."
    return "; ".join(said) + more + "." + (rest if left else "")


def _about(summary: Summary, challenger: str) -> str:
    """What can be said of one arm against each of the others, in whole sentences."""
    found = by_pair(summary.verdicts)
    others = [arm.name for arm in summary.compared if arm.name != challenger]
    return " ".join(
        _against(summary, challenger, name, list(found[challenger, name].values()))
        for name in others
    )


def _against(summary: Summary, challenger: str, reference: str, found: list[Verdict]) -> str:
    one, other = summary.arm(challenger).title, summary.arm(reference).title
    by_verdict = {kind: [v for v in found if v.verdict == kind] for kind in (BETTER, WORSE, OPEN)}
    listed = {kind: _listed(summary, verdicts) for kind, verdicts in by_verdict.items()}
    if not listed[BETTER] and not listed[WORSE]:
        return f"No difference between {one} and {other} can be claimed here: {listed[OPEN]}."
    parts = [f"{one} beats {other} on {listed[BETTER]}"] if listed[BETTER] else []
    if listed[WORSE]:
        start = "and loses" if parts else f"{one} loses to {other}"
        parts.append(f"{start} on {listed[WORSE]}")
    sentence = ", ".join(parts) + "."
    if listed[OPEN]:
        sentence += f" No difference can be claimed on {listed[OPEN]}."
    return sentence


def _listed(summary: Summary, found: Sequence[Verdict]) -> str:
    """``VQA +3.1 [0.2, 6.0] and ...``"""
    return in_words([f"{summary.plan.benchmarks[v.question.benchmark]} {figure(v)}" for v in found])


def figure(verdict: Verdict) -> str:
    """Return ``+3.1 [0.2, 6.0]``: the difference in points and its 95 % interval."""
    text = f"{verdict.difference:+.1f}"
    if verdict.ci95 is not None:
        text += f" [{verdict.ci95[0]:.1f}, {verdict.ci95[1]:.1f}]"
    return text.replace("-", "−")


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


def by_pair(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], dict[str, Verdict]]:
    """Return (challenger, reference) -> benchmark -> verdict, in order."""
    found: dict[tuple[str, str], dict[str, Verdict]] = {}
    for verdict in verdicts:
        question = verdict.question
        pair = found.setdefault((question.challenger, question.reference), {})
        pair[question.benchmark] = verdict
    return found


def _arm(name: str, scores: Scores, plan: StudyPlan) -> ArmSummary:
    trials = tuple(scores.by_arm[name])
    means, deviations = {}, {}
    for benchmark in plan.benchmarks:
        values = [trial.measures[benchmark].value for trial in trials]
        means[benchmark] = statistics.fmean(values)
        deviations[benchmark] = statistics.stdev(values) if len(values) > 1 else None
    presented = plan.presentation
    return ArmSummary(
        name=name,
        title=name if presented is None else presented.titles.get(name, name),
        recipe=plan.arms[name],
        description=trials[0].description,
        means=means,
        deviations=deviations,
        trials=trials,
        blind=name in plan.blind,
    )


def _arm_json(arm: ArmSummary) -> dict[str, Any]:
    return {
        "recipe": arm.recipe,
        "description": arm.description,
        "scores": {
            name: {
                "metric": arm.trials[0].measures[name].metric,
                "mean": mean,
                "sd": arm.deviations[name],
                "seeds": [trial.measures[name].value for trial in arm.trials],
                "n": arm.trials[0].measures[name].n,
            }
            for name, mean in arm.means.items()
        },
        "cost": {
            **{k: v for k, v in _price_json(arm.trials[0]).items() if k != "operations"},
            "steps": [trial.steps for trial in arm.trials],
            "samples": [trial.samples for trial in arm.trials],
        },
        "weights": [trial.weights for trial in arm.trials],
        "inputs": [dict(trial.inputs) for trial in arm.trials],
        "measured": [t.measured and asdict(t.measured) for t in arm.trials],
    }


def _price_json(trial: Trial) -> dict[str, Any]:
    return {} if trial.price is None else asdict(trial.price)


def _notes(plan: StudyPlan, trials: Sequence[Trial]) -> tuple[str, ...]:
    notes = [] if plan.presentation is None else list(plan.presentation.notes)
    if plan.seeds == 1:
        notes.append(
            "one seed: intervals are over questions only and say nothing about another training run"
        )
    elif plan.seeds < FEW_SEEDS:
        notes.append("two seeds measure the noise of training poorly; three or more are better")
    samples = {trial.samples for trial in trials}
    if plan.budget is None and len(samples) > 1:
        notes.append(
            "no common budget: each arm made its recipe's own steps "
            f"({min(samples):,} to {max(samples):,} samples)"
        )
    data = {trial.arm: trial.inputs.get("data") for trial in trials}
    if len(set(data.values())) > 1:
        notes.append("the recipes read different training files, so their data differ as well")
    notes += _rules(trials)
    for key, words in _SAME.items() if all(trial.measured for trial in trials) else ():
        found = {_environment(trial, key) for trial in trials}
        if len(found) > 1:
            notes.append(f"trials were {words}: {', '.join(sorted(found))}")
    return tuple(notes)


def _rules(trials: Sequence[Trial]) -> list[str]:
    """A note for every benchmark that was not scored by its official rule alone."""
    used: dict[str, set[str]] = {}
    for trial in trials:
        for name, measure in trial.measures.items():
            used.setdefault(name, set()).add(measure.variant)
    return [
        f"{name} was scored by the rule {' and '.join(map(repr, sorted(rules)))}"
        for name, rules in used.items()
        if rules != {get_benchmark(name).variants[0]}
    ]


def _environment(trial: Trial, key: str) -> str:
    known = {} if trial.measured is None else trial.measured.environment
    value = str(known.get(key) or "unknown")
    return value[:_COMMIT] if key == "commit" else value


def _over(summary: Summary) -> str:
    plan = summary.plan
    return (f"{plan.seeds} seeds and the questions" if plan.seeds > 1 else "the questions") + (
        f"; p below 0.05 after Holm for {len(summary.verdicts)} comparisons"
    )


def _short(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
