"""What each level of each encoder knows, measured without a language model.

    OUT/results.json   every figure with n and interval     OUT/table.md   the same to read
    OUT/heatmap.html   level x encoder x task, self-contained

Beside an encoder's levels always stand its raw pixels, the same network with random weights, and
two of its levels side by side: a second encoder helps only where the pair beats that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manyeyes.environment import environment
from manyeyes.evaluation.confidence.families import claimed_sign, holm
from manyeyes.evaluation.confidence.intervals import estimate_mean, paired_difference
from manyeyes.files import write_text
from manyeyes.probes.fitting import standardized
from manyeyes.probes.tasks import PROBES, Task, blind_scores
from manyeyes.study.pages.heatmap import Column, heatmap, markdown
from manyeyes.study.probing.data import ProbeData
from manyeyes.study.probing.features import CONTROL, PAIR, Eye, Reading, ReadLevel, rows

RESULTS_FILE, TABLE_FILE, HEATMAP_FILE = "results.json", "table.md", "heatmap.html"
SCALE = 100.0
"""Item scores are shares 0..1; figures are in percent."""

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Figure:
    """Mean item score in percent, its 95 % interval clustered by picture, items and pictures."""

    value: float
    ci95: tuple[float, float] | None
    n: int
    pictures: int


@dataclass(frozen=True)
class ProbedRow:
    """One row of the table; ``figures``: task -> probe -> figure."""

    name: str
    kind: str
    eye: str
    level: int | None
    figures: Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True)
class Gain:
    """A pair of encoders minus the better control of equal width, in points.

    ``p`` is adjusted for the family of all gains; ``helps``: a gain may be claimed.
    """

    pair: str
    control: str
    task: str
    probe: str
    difference: float
    ci95: tuple[float, float] | None
    p: float

    @property
    def helps(self) -> bool:
        return claimed_sign(self.difference, self.ci95, self.p) > 0


@dataclass(frozen=True)
class ProbeStudy:
    """Everything ``results.json`` holds. ``blind``: task -> the best constant answer."""

    rows: tuple[ProbedRow, ...]
    tasks: Mapping[str, Mapping[str, Any]]
    blind: Mapping[str, Figure]
    gains: tuple[Gain, ...]
    skipped: Mapping[str, str]
    probes: tuple[str, ...]
    seeds: int
    facts: Mapping[str, Any] = field(default_factory=dict)


Scores = dict[tuple[str, str, str], list[float]]
"""(row, task, probe) -> item scores, kept of pairs and controls."""


def run_probes(
    eyes: Sequence[Eye],
    data: ProbeData,
    how: Reading,
    *,
    probes: Sequence[str] = tuple(PROBES),
    seeds: int = 1,
    told: Told = lambda label, done, total: None,
) -> ProbeStudy:
    """Probe every row of ``rows`` on every task with every probe.

    ``seeds``: fits per cell, each with its own batches and, for attention, its own start; an item's
    score is the mean over them.
    """
    found, kept = [], Scores()
    for row in rows(eyes, data.train, data.held, how, told):
        told(row.name, 0, len(data.tasks))
        found.append(_probed(row, data.tasks, probes, seeds, kept, told))
    blind = {task.name: _figure(blind_scores(task), task) for task in data.tasks}
    tasks = {
        task.name: {
            "title": task.title,
            "kind": task.kind,
            "classes": list(task.classes),
            "train": len(task.train),
            "held": len(task.held),
        }
        for task in data.tasks
    }
    gains = _gains(found, data.tasks, probes, kept)
    facts = {
        "pictures": {"train": len(data.train), "held": len(data.held)},
        "geometry": how.geometry,
        "largest grid": how.grid,
        "encoders": {eye.name: eye.encoder.spec.checkpoint for eye in eyes},
        "environment": environment(),
    }
    return ProbeStudy(tuple(found), tasks, blind, gains, data.skipped, tuple(probes), seeds, facts)


def _probed(
    row: ReadLevel,
    tasks: Sequence[Task],
    probes: Sequence[str],
    seeds: int,
    kept: Scores,
    told: Told,
) -> ProbedRow:
    train, held = standardized(row.train, row.held, dims=(0, 1))
    figures: dict[str, dict[str, Figure]] = {}
    for number, task in enumerate(tasks, start=1):
        figures[task.name] = {}
        for probe in probes:
            fits = [PROBES[probe](task, train, held, seed) for seed in range(seeds)]
            scores = torch.stack(fits).mean(dim=0)
            figures[task.name][probe] = _figure(scores, task)
            if row.kind in (CONTROL, PAIR):
                kept[row.name, task.name, probe] = scores.tolist()
        told(row.name, number, len(tasks))
    return ProbedRow(row.name, row.kind, row.eye, row.level, figures)


def _figure(scores: Tensor, task: Task) -> Figure:
    found = estimate_mean(scores.tolist(), _clusters(task))
    return Figure(SCALE * found.mean, _scaled(found.ci95), found.n, found.clusters)


def _clusters(task: Task) -> list[str]:
    return [str(picture) for picture in task.held.picture.tolist()]


def _scaled(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (SCALE * interval[0], SCALE * interval[1])


def _gains(
    found: Sequence[ProbedRow], tasks: Sequence[Task], probes: Sequence[str], kept: Scores
) -> tuple[Gain, ...]:
    """Every pair against the better of its two controls, task by task."""
    raw = []
    for pair in (row for row in found if row.kind == PAIR):
        sides = pair.eye.split(" + ")
        controls = [row for row in found if row.kind == CONTROL and row.eye in sides]
        for task in tasks:
            for probe in probes:
                best = max(controls, key=lambda row: row.figures[task.name][probe].value)
                one, other = (kept[row.name, task.name, probe] for row in (pair, best))
                test = paired_difference(one, other, _clusters(task))
                estimate = test.estimate
                raw.append(
                    Gain(
                        pair.name,
                        best.name,
                        task.name,
                        probe,
                        SCALE * estimate.mean,
                        _scaled(estimate.ci95),
                        test.p,
                    )
                )
    adjusted = holm({number: gain.p for number, gain in enumerate(raw)})
    return tuple(replace(gain, p=adjusted.get(i, math.nan)) for i, gain in enumerate(raw))


def write_probes(study: ProbeStudy, out: Path) -> None:
    """Write ``results.json``, ``table.md`` and ``heatmap.html`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    record = asdict(study)
    for entry, gain in zip(record["gains"], study.gains, strict=True):
        entry["helps"] = gain.helps
    cells = {
        probe: {
            row.name: {task: row.figures[task][probe].value for task in study.tasks}
            for row in study.rows
        }
        for probe in study.probes
    }
    columns = [
        Column(task, str(study.tasks[task]["title"]), figure.value, figure.n)
        for task, figure in study.blind.items()
    ]
    notes = probe_notes(study)
    write_text(out / RESULTS_FILE, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_text(out / TABLE_FILE, markdown(cells, columns, notes))
    write_text(out / HEATMAP_FILE, heatmap(cells, columns, notes))


def probe_notes(study: ProbeStudy) -> list[str]:
    """Return what a reader must know, in plain sentences, the gains of pairs first."""
    lines = []
    helping = [gain for gain in study.gains if gain.helps]
    for gain in helping:
        interval = "" if gain.ci95 is None else " [{:.1f}, {:.1f}]".format(*gain.ci95)
        lines.append(
            f"{gain.pair} beats {gain.control} on {gain.task} ({gain.probe} probe) by "
            f"{gain.difference:.1f} points{interval}."
        )
    if study.gains and not helping:
        lines.append("No pair of encoders beats two levels of the better one, by these probes.")
    lines += [f"Left out: {task} ({reason})." for task, reason in study.skipped.items()]
    return [
        *lines,
        f"Percent of held-out items right (box: mean IoU), mean over {study.seeds} fit(s). Below "
        "stand the best constant answer and the number of items. A pair or control is as wide as "
        "two levels.",
    ]
