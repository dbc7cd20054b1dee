"""Verdicts of many arms as one table per benchmark: every row against every column, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manyeyes.study.comparison.summary import ArmSummary, Summary
from manyeyes.study.comparison.verdicts import BETTER, OPEN, WORSE, Verdict, figure

MOST_PAIRS = 15
"""So many pairs, those of six arms, are still read in a list with all their figures."""

_MARKS = {BETTER: "▲", WORSE: "▼", OPEN: "·"}
_OPPOSITE = {BETTER: WORSE, WORSE: BETTER, OPEN: OPEN}


@dataclass(frozen=True)
class Cell:
    """What a row's arm is against a column's; ``verdict`` and ``title`` are empty on the diagonal.

    ``title``: the comparison in words, with its difference as the study judged it.
    """

    mark: str
    verdict: str
    title: str


@dataclass(frozen=True)
class GridRow:
    """One arm against all arms, itself among them, in the order of the rows."""

    arm: ArmSummary
    cells: tuple[Cell, ...]


def verdict_grids(summary: Summary) -> dict[str, list[GridRow]]:
    """Return benchmark -> rows by falling score; nothing where a list of pairs is short enough."""
    plan = summary.plan
    chosen = plan.reference is not None or plan.presentation is not None
    if chosen or _pairs(len(plan.compared)) <= MOST_PAIRS:
        return {}
    return {name: _grid(summary, name) for name in summary.plan.benchmarks}


def _grid(summary: Summary, benchmark: str) -> list[GridRow]:
    known = {
        (v.question.challenger, v.question.reference): v
        for v in summary.verdicts
        if v.question.benchmark == benchmark
    }
    arms = sorted(summary.compared, key=lambda arm: -arm.means[benchmark])
    return [
        GridRow(row, tuple(_cell(known, row.name, column.name) for column in arms)) for row in arms
    ]


def _cell(known: Mapping[tuple[str, str], Verdict], row: str, column: str) -> Cell:
    if row == column:
        return Cell("", "", "")
    straight = (row, column) in known
    found = known[(row, column) if straight else (column, row)]
    verdict = found.verdict if straight else _OPPOSITE[found.verdict]
    pair = found.question
    title = f"{row}: {verdict}; {pair.challenger} − {pair.reference} {figure(found)}"
    return Cell(_MARKS[verdict], verdict, title)


def _pairs(arms: int) -> int:
    return arms * (arms - 1) // 2
