"""A study's result in a few sentences."""

from __future__ import annotations

import statistics
from collections import Counter

from manyeyes.study.comparison.constant import below_constant, in_words
from manyeyes.study.comparison.honesty import blind_solvable, few_right, rehearsal, seen_pictures
from manyeyes.study.comparison.summary import Summary
from manyeyes.study.comparison.verdicts import BETTER, OPEN, WORSE, by_pair, figure
from manyeyes.study.trials.trial import Presentation

_SAID = 4
"""Claims that are said in words; the table holds the others."""


def headline(summary: Summary) -> str:
    """Return the study's result in a few sentences: `findings`, joined."""
    return " ".join(findings(summary))


def findings(summary: Summary) -> list[str]:
    """Return what a study found: what is separable, and how much is not.

    First stand the benchmarks on which no arm is worth more than a constant answer or is hardly
    ever right; last, what is answered without the images, and which pictures were trained on.
    """
    presented = summary.plan.presentation
    found = _separable(summary) if presented is None else _about(summary, presented)
    said = (
        rehearsal(summary.plan.seen, summary.plan.arms.values()),
        constant_warning(summary),
        few_right(_best_right(summary)),
        found,
        blind_solvable(summary.blind),
        seen_pictures(summary.plan.seen),
    )
    return [part for part in said if part]


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
    if not claimed and len(summary.verdicts) == 1:
        return "The one comparison is not separable at this budget."
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


def _about(summary: Summary, presented: Presentation) -> str:
    """What was found of one arm against each of the others, and what was not, without figures.

    It is for people who do not know the arms; the figures stand in the table.
    """
    found, challenger = by_pair(summary.verdicts), presented.challenger
    others = [arm.name for arm in summary.compared if arm.name != challenger]
    names = {arm.name: presented.described.get(arm.name, arm.title) for arm in summary.arms}
    counts = {name: Counter(v.verdict for v in found[challenger, name].values()) for name in others}
    differing = [n for n in others if counts[n][BETTER] or counts[n][WORSE]]
    alike = [names[n] for n in others if n not in differing]
    said = ""
    if differing:
        said = in_words([_did(names[n], counts[n]) for n in differing])
        said = f"{_capital(names[challenger])} did {said}. "
    if alike:
        one = "it" if differing else names[challenger]
        said += f"No difference between {one} and {in_words(alike)} was found: if there is one, it "
        said += "is too small for this study."
    return said.strip()


def _did(other: str, count: Counter[str]) -> str:
    """``better than CLIP alone in 2 of 4 tests and worse in 1``."""
    tests = f"of {count.total()} tests"
    if not count[BETTER]:
        return f"worse than {other} in {count[WORSE]} {tests}"
    worse = f", worse in {count[WORSE]}" if count[WORSE] else ""
    return f"better than {other} in {count[BETTER]} {tests}{worse}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
