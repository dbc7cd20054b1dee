"""One self-contained HTML page of a study, made from its stored records alone.

write_report(run_dir)      RUN/study.json + RUN/items.jsonl + the images they name → report.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from manyeyes.files import write_text
from manyeyes.records import Box
from manyeyes.study.comparison.contrast import contrasts, figure, group_measures, verdict
from manyeyes.study.pages import figures, pictures
from manyeyes.study.pages.page import PALETTE, Card, answer_row, render
from manyeyes.study.record import Arm, Measure, Study, StudyItem, load_study

REPORT_FILE = "report.html"
TEMPLATE_FILE = "report.html.jinja"
BREAKDOWN = "question_type"


def write_report(run_dir: str | Path) -> Path:
    """Write ``report.html`` into ``run_dir`` from the records stored there; return its path.

    Raises:
        DataError: a record or an image is missing or broken.
    """
    folder = Path(run_dir)
    study, items = load_study(folder)
    path = folder / REPORT_FILE
    write_text(path, render_report(folder, study, items))
    return path


def render_report(run_dir: Path, study: Study, items: Sequence[StudyItem]) -> str:
    """Return the page; ``run_dir`` is what the items' image paths are relative to."""
    found = contrasts(study, items)
    colours = arm_colours(study.arms)
    return render(
        TEMPLATE_FILE,
        number=number,
        p_value=p_value,
        study=study,
        verdict=verdict(study, found),
        contrasts={c.benchmark: c for c in found},
        figure=figure,
        colours=colours,
        answering=[a for a in study.arms if any(a.name in item.answers for item in items)],
        groups=_group_figures(study, items, colours),
        curves=_curve_figures(study, colours),
        weights=_weight_figures(study, colours),
        rule=pictures.RULE,
        cards=_cards(run_dir, study, items, colours),
    )


def arm_colours(arms: Sequence[Arm]) -> dict[str, str]:
    """Return arm -> CSS colour: one of the palette per contestant, grey shades for baselines."""
    contestants = [arm.name for arm in arms if not arm.baseline]
    baselines = [arm.name for arm in arms if arm.baseline]
    palette = {name: f"var(--c{i % PALETTE})" for i, name in enumerate(contestants)}
    greys = {name: f"var(--base{min(i, 1)})" for i, name in enumerate(baselines)}
    return {arm.name: (palette | greys)[arm.name] for arm in arms}


def number(measure: Measure | None) -> str:
    """Return ``85.3`` or a dash."""
    return "–" if measure is None else f"{measure.value:.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """Return ``p = 0.031`` or ``p < 0.001``; nothing where it is not defined."""
    if math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _group_figures(
    study: Study, items: Sequence[StudyItem], colours: Mapping[str, str]
) -> dict[str, Markup]:
    """Bars by question type for every benchmark that has at least two of them."""
    drawn = {}
    names = {arm.name: arm.title for arm in study.arms}
    for benchmark, title in study.benchmarks.items():
        chosen = [item for item in items if item.benchmark == benchmark]
        arms = [name for name in names if all(name in item.answers for item in chosen)]
        groups = group_measures(chosen, BREAKDOWN, arms)
        if len(groups) > 1:
            shown = {name: colours[name] for name in arms}
            drawn[title] = figures.bars(groups, shown, names=names)
    return drawn


def _curve_figures(study: Study, colours: Mapping[str, str]) -> dict[str, Markup]:
    stages = dict.fromkeys(point.stage for arm in study.arms for point in arm.curve)
    return {stage: figures.curves(study.arms, stage, colours) for stage in stages}


def _weight_figures(study: Study, colours: Mapping[str, str]) -> dict[str, Markup]:
    return {
        f"{arm.title}: {encoder}": figures.level_weights(weights, colours[arm.name], encoder)
        for arm in study.arms
        for encoder, weights in arm.level_weights.items()
    }


def _cards(
    run_dir: Path, study: Study, items: Sequence[StudyItem], colours: Mapping[str, str]
) -> dict[str, list[Card]]:
    cards = {}
    for benchmark, title in study.benchmarks.items():
        group = [item for item in items if item.benchmark == benchmark]
        chosen = pictures.choose(group, study.contrast, seed=study.seed)
        if chosen:
            cards[title] = [_card(run_dir, study, entry, colours) for entry in chosen]
    return cards


def _card(run_dir: Path, study: Study, chosen: pictures.Chosen, colours: Mapping[str, str]) -> Card:
    item = chosen.item
    arms = [arm for arm in study.arms if arm.name in item.answers]
    boxes: dict[str, Sequence[Box]] = {"truth": [item.target] if item.target else []}
    for arm in study.contestants:
        if arm.name in item.answers and item.target is not None:
            boxes[f"arm{_index(study, arm) % PALETTE}"] = item.answers[arm.name].boxes
    return Card(
        picture=pictures.picture(run_dir, item, boxes),
        reason=chosen.reason,
        question=item.question,
        truth=item.truth if item.target is None else pictures.in_pixels(item.target),
        group=item.groups.get(BREAKDOWN, ""),
        answers=tuple(
            answer_row(arm.title, item.answers[arm.name], colours[arm.name]) for arm in arms
        ),
    )


def _index(study: Study, arm: Arm) -> int:
    return [other.name for other in study.contestants].index(arm.name)
