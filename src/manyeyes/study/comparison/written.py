"""What a study found, written: as JSON, as Markdown, and in the cells of tables."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from manyeyes.evaluation.contract import CONSTANT
from manyeyes.lines import count_text, number_text, with_minus
from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.summary import ArmSummary, Summary
from manyeyes.study.comparison.verdicts import alone, by_pair, figure
from manyeyes.study.trials.trial import StudyPlan, Trial

_RARE = ("first_seed", "blind", "presentation", "seen")


def results_of(summary: Summary) -> dict[str, Any]:
    """Return ``results.json``. Only what stands under ``measured`` depends on the machine."""
    return {
        "study": _plan_json(summary.plan),
        "arms": {arm.name: _arm_json(arm) for arm in summary.arms},
        "majority": dict(summary.majority),
        **({"blind": blind} if (blind := summary.blind) else {}),
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
    if alone(summary.verdicts):
        lines += [alone(summary.verdicts), ""]
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
        name = arm.name if arm.asked is None else arm.title
        lines.append(f"| {name} | " + " | ".join([*cells, *cost_cells(arm)]) + " |")
    constant = [f"{summary.majority[name]:.1f}" for name in titles]
    lines.append("| best constant answer | " + " | ".join([*constant, *[""] * len(COSTS)]) + " |")
    blind = summary.blind
    if blind:
        cells = [f"{blind[title]:.1f}" if title in blind else "" for title in titles.values()]
        lines.append(
            "| best without the image | " + " | ".join([*cells, *[""] * len(COSTS)]) + " |"
        )
    lines += ["", f"Best constant answer: {CONSTANT}."]
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
        count_text(price.parameters),
        count_text(price.trained),
        number_text(price.operations_per_sample / 1e9),
        number_text(statistics.median(m.encode_ms for m in measured), 2),
        number_text(statistics.median(m.train_seconds for m in measured)),
        f"{max(m.peak_gib for m in measured):.2f}",
    ]


def score_text(arm: ArmSummary, benchmark: str) -> str:
    """Return ``61.2 ± 0.8``: mean and standard deviation over seeds.

    Of a single seed ``61.2 (58.2–64.2)``: the score with its 95 % interval over questions.
    """
    deviation, ci95 = arm.deviations[benchmark], arm.trials[0].measures[benchmark].ci95
    text = with_minus(f"{arm.means[benchmark]:.1f}")
    if deviation is not None:
        return f"{text} ± {deviation:.1f}"
    return text if ci95 is None else f"{text} ({with_minus(f'{ci95[0]:.1f}–{ci95[1]:.1f}')})"


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
        **({} if arm.asked is None else {"asked": asdict(arm.asked)}),
        "weights": [trial.weights for trial in arm.trials],
        "inputs": [dict(trial.inputs) for trial in arm.trials],
        "measured": [t.measured and asdict(t.measured) for t in arm.trials],
    }


def _price_json(trial: Trial) -> dict[str, Any]:
    return {} if trial.price is None else asdict(trial.price)


def _over(summary: Summary) -> str:
    plan = summary.plan
    return (f"{plan.seeds} seeds and the questions" if plan.seeds > 1 else "the questions") + (
        f"; p below 0.05 after Holm for {len(summary.verdicts)} comparisons"
    )
