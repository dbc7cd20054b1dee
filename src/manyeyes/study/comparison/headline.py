"""A study's result in a few sentences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from manyeyes.study.comparison.constant import below_constant, in_words
from manyeyes.study.comparison.honesty import blind_solvable, few_right, seen_pictures
from manyeyes.study.comparison.summary import Summary
from manyeyes.study.comparison.verdicts import BETTER, OPEN, WORSE, Verdict, by_pair, figure

_SAID = 4
"""Claims that are said in words; the table holds the others."""


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
        blind_solvable(summary.blind),
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
