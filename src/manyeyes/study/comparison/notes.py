"""What a study notes of its trials: too few seeds, unequal training, other machines and rules."""

from __future__ import annotations

from collections.abc import Sequence

from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.study.trials.trial import StudyPlan, Trial

FEW_SEEDS = 3
_SAME = {
    "commit": "run with different commits",
    "precision": "trained in different precision",
    "device": "trained on different devices",
}
"""What a trial's environment says, and what a study notes where trials do not agree."""

NOT_TRAINED = "not trained"
"""What arms that are only asked are called."""

_COMMIT = 12
"""Characters of a commit that are shown."""


def notes_of(plan: StudyPlan, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the notes, those of the study's presentation first."""
    notes = [] if plan.presentation is None else list(plan.presentation.notes)
    if plan.seeds == 1:
        notes.append(
            "one seed: intervals are over questions only and say nothing about another training run"
        )
    elif plan.seeds < FEW_SEEDS:
        notes.append("two seeds measure the noise of training poorly; three or more are better")
    notes += _rules(trials)
    notes += [_asked(trial) for trial in trials if trial.asked and trial.seed == plan.first_seed]
    trials = [trial for trial in trials if trial.asked is None]
    samples = {trial.samples for trial in trials}
    if plan.budget is None and len(samples) > 1:
        notes.append(
            "no common budget: each arm made its recipe's own steps "
            f"({min(samples):,} to {max(samples):,} samples)"
        )
    data = {trial.arm: trial.inputs.get("data") for trial in trials}
    if len(set(data.values())) > 1:
        notes.append("the recipes read different training files, so their data differ as well")
    for key, words in _SAME.items() if all(trial.measured for trial in trials) else ():
        found = {_environment(trial, key) for trial in trials}
        if len(found) > 1:
            notes.append(f"trials were {words}: {', '.join(sorted(found))}")
    return tuple(notes)


def _asked(trial: Trial) -> str:
    """What readers must know of an arm that was only asked."""
    asked = trial.asked
    assert asked is not None, "checked by the caller"
    cost = "" if asked.cost is None else f", for {asked.cost:.4f}"
    said = (
        f"{trial.arm} was {NOT_TRAINED}, only asked ({trial.recipe}), and says the same for every "
        f"seed: {asked.requests:,} questions were answered, {asked.prompt_tokens:,} tokens read "
        f"and {asked.completion_tokens:,} written{cost}"
    )
    if asked.refused:
        name, reason = next(iter(asked.refused.items()))
        said += f"; {len(asked.refused):,} were refused and count as wrong, the first is {name}: "
        said += reason
    return said


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
