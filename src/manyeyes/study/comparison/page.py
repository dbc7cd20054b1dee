"""The page of a comparison: verdicts first, then cost, groups, training, disagreements, origin.

Pictures of the items it shows are kept in OUT/records/pictures, so that the page can be made again
without the data.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from manyeyes.evaluation.contract import CONSTANT
from manyeyes.files import write_text
from manyeyes.study.comparison.cards import BREAKDOWNS, averaged, card_rule, picture_cards
from manyeyes.study.comparison.groups import group_measures
from manyeyes.study.comparison.headline import findings
from manyeyes.study.comparison.summary import ArmSummary, Summary
from manyeyes.study.comparison.verdict_grid import verdict_grids
from manyeyes.study.comparison.verdicts import alone, by_pair, figure, needed
from manyeyes.study.comparison.written import COSTS, cost_cells, score_text
from manyeyes.study.pages import figures
from manyeyes.study.pages.page import PALETTE, render
from manyeyes.study.pages.scatter import Point, scatter
from manyeyes.study.record import CurvePoint, StudyItem
from manyeyes.study.trials.evidence import Evidence, kept_evidence
from manyeyes.study.trials.trial import arm_folder, trial_file

REPORT_FILE = "report.html"
TEMPLATE_FILE = "comparison.html.jinja"


def write_page(folder: Path, summary: Summary) -> Path:
    """Write ``report.html`` of a summary; return its path.

    Raises:
        ImageError: a picture that it shows is neither in the records nor in the data.
    """
    path = folder / REPORT_FILE
    write_text(path, render_page(folder, summary))
    return path


def render_page(folder: Path, summary: Summary) -> str:
    """Return the page; see `write_page`."""
    colours = _colours(summary)
    numbers = _numbers(summary)
    items = averaged(summary)
    seeing = {arm.name: colours[arm.name] for arm in summary.compared}
    losses = {arm.name: _losses(arm) for arm in summary.compared}
    stages = dict.fromkeys(point.stage for points in losses.values() for point in points)
    presented = summary.plan.presentation
    return render(
        TEMPLATE_FILE,
        title=_title(summary),
        summary=summary,
        presented=presented,
        names={arm.name: arm.title for arm in summary.arms},
        priced=_priced(summary),
        titles=summary.plan.benchmarks,
        findings=findings(summary),
        grids=verdict_grids(summary),
        pairs=by_pair(summary.verdicts),
        figure=figure,
        needed=needed,
        alone=alone(summary.verdicts),
        constant=CONSTANT,
        colours=colours,
        numbers=numbers,
        costs=COSTS,
        cost_cells=cost_cells,
        score_text=score_text,
        plots=_plots(summary, colours, numbers),
        groups=_groups(summary, items, colours, numbers),
        curves={
            stage: figures.curves(_with_stage(losses, stage), stage, seeing, numbers)
            for stage in stages
        },
        drawn=seeing,
        samples={name: figures.line_sample(name, seeing) for name in seeing},
        weights={
            f"{arm.title}: {encoder}": figures.level_weights(values, colours[arm.name], encoder)
            for arm in summary.compared
            for encoder, values in _level_weights(arm).items()
        },
        rule=card_rule(summary),
        cards=picture_cards(folder, summary, items, colours, numbers),
        facts={arm.name: _facts(arm) for arm in summary.arms},
        evidence=_evidence(folder, summary),
    )


def _title(summary: Summary) -> str:
    if summary.plan.presentation is not None:
        return summary.plan.presentation.title
    names = [arm.name for arm in summary.arms]
    listed = " · ".join(names) if len(names) <= PALETTE else f"{len(names)} arms"
    return f"Which visual branch? {listed}"


def _colours(summary: Summary) -> dict[str, str]:
    """Arm -> CSS colour: of the palette, grey for those that see no image."""
    found = {arm.name: f"var(--c{i % PALETTE})" for i, arm in enumerate(summary.compared)}
    return {arm.name: found.get(arm.name, "var(--base1)") for arm in summary.arms}


def _priced(summary: Summary) -> bool:
    """Whether the records say what the trained arms cost; those of former demos do not."""
    trials = [trial for arm in summary.arms if arm.asked is None for trial in arm.trials]
    return bool(trials) and all(trial.price is not None for trial in trials)


def _numbers(summary: Summary) -> dict[str, str]:
    """Arm -> its number, where there are more arms than colours; else nothing is written."""
    few = len(summary.arms) <= PALETTE
    return {arm.name: "" if few else str(i) for i, arm in enumerate(summary.arms, start=1)}


def _evidence(folder: Path, summary: Summary) -> dict[str, list[Evidence]]:
    """Arm -> its explained answers, of arms that have some."""
    arms = [arm.name for arm in summary.arms]
    found = {name: kept_evidence(trial_file(folder, arm_folder(name), 0).parent) for name in arms}
    return {name: explained for name, explained in found.items() if explained}


def _losses(arm: ArmSummary) -> list[CurvePoint]:
    """An arm's training loss, averaged over seeds."""
    losses: dict[tuple[str, int], list[float]] = {}
    for trial in arm.trials:
        for point in trial.curve:
            losses.setdefault((point.stage, point.step), []).append(point.loss)
    return [CurvePoint(*key, statistics.fmean(values)) for key, values in losses.items()]


def _level_weights(arm: ArmSummary) -> dict[str, dict[int, float]]:
    """Encoder -> level -> weight, averaged over seeds; older records count the levels from 1."""
    found = {}
    for encoder, first in arm.trials[0].level_weights.items():
        levels = arm.trials[0].levels.get(encoder) or range(1, len(first) + 1)
        seeds = zip(*(trial.level_weights[encoder] for trial in arm.trials), strict=True)
        found[encoder] = dict(zip(levels, map(statistics.fmean, seeds), strict=True))
    return found


def _with_stage(
    losses: Mapping[str, Sequence[CurvePoint]], stage: str
) -> dict[str, Sequence[CurvePoint]]:
    return {arm: points for arm, points in losses.items() if any(p.stage == stage for p in points)}


def _plots(
    summary: Summary, colours: Mapping[str, str], numbers: Mapping[str, str]
) -> dict[str, Markup]:
    plots = {}
    for name, title in summary.plan.benchmarks.items() if _priced(summary) else ():
        points = [
            Point(
                arm.title,
                colours[arm.name],
                price.operations_per_sample / 1e9,
                arm.means[name],
                arm.deviations[name] or 0.0,
                numbers[arm.name],
            )
            for arm in summary.compared
            if (price := arm.trials[0].price) is not None
        ]
        plots[title] = scatter(
            points, x_title="GFLOP per training sample", name=f"{title} over training cost"
        )
    return plots


def _groups(
    summary: Summary,
    items: Sequence[StudyItem],
    colours: Mapping[str, str],
    numbers: Mapping[str, str],
) -> dict[str, Markup]:
    """Bars for every benchmark with at least two groups of a known breakdown."""
    drawn = {}
    names = {arm.name: arm.title for arm in summary.arms}
    for benchmark, title in summary.plan.benchmarks.items():
        chosen = [item for item in items if item.benchmark == benchmark]
        others = sorted({kind for item in chosen for kind in item.groups} - set(BREAKDOWNS))
        kinds = [kind for kind in (*BREAKDOWNS, *others) if any(kind in i.groups for i in chosen)]
        groups = group_measures(chosen, kinds[0], list(names)) if kinds else {}
        if len(groups) > 1:
            drawn[title] = figures.bars(groups, colours, names=names, numbers=numbers)
    return drawn


def _facts(arm: ArmSummary) -> dict[str, str]:
    first = arm.trials[0]
    if arm.asked is not None:
        counts = {key: str(value) for key, value in vars(arm.asked).items() if key != "refused"}
        return {"model": arm.recipe, **counts, "refused": str(len(arm.asked.refused))}
    environment = {} if first.measured is None else first.measured.environment
    return {
        "recipe": arm.recipe,
        "seeds": ", ".join(str(trial.seed) for trial in arm.trials),
        "training": f"{first.steps:,} steps, {first.samples:,} samples",
        "weights (SHA-256)": " ".join(trial.weights[:12] for trial in arm.trials),
        "inputs": " ".join(f"{key} {value[:12]}" for key, value in first.inputs.items()),
        **{key: str(environment.get(key)) for key in ("torch", "device") if environment},
    }
