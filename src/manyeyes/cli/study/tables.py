"""What the commands of a study print: verdicts, scores and cost; and what an answer came from."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from manyeyes.cli.output import Output
from manyeyes.evaluation.contract import CONSTANT
from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.summary import Summary
from manyeyes.study.comparison.verdicts import BETTER, WORSE, alone, by_pair, figure, needed
from manyeyes.study.comparison.written import COSTS, cost_cells, results_of, score_text
from manyeyes.study.explanation.explain import Explanation

_STYLES = {BETTER: "green", WORSE: "red"}


def show_study(output: Output, folder: Path, summary: Summary) -> None:
    """Print a study's tables, and with ``--json`` its results."""
    output.line(headline(summary))
    output.show(*study_tables(summary))
    for note in summary.notes:
        output.note(f"note: {note}")
    output.line(f"report: {folder / 'report.html'}")
    output.result({"out": folder, **results_of(summary)})


def study_tables(summary: Summary) -> tuple[Table, Table]:
    """Return the verdicts, and the scores with their cost, as tables."""
    return _verdicts(summary), _scores(summary)


def masking_table(found: Explanation) -> Table:
    """Return what became of an answer when parts were masked, as a table."""
    table = Table("changed", "how", "answer then", title="masking", title_justify="left")
    table.add_column("log P of the answer", justify="right")
    table.add_column("change", justify="right")
    whole = found.whole
    table.add_row("nothing", "", escape(whole.answer), f"{whole.log_p:.2f}", "")
    for asked in found.changed:
        change = f"{asked.log_p - whole.log_p:+.2f}"
        table.add_row(asked.part, asked.how, escape(asked.answer), f"{asked.log_p:.2f}", change)
    return table


def _verdicts(summary: Summary) -> Table:
    table = Table("compared", title="verdicts", title_justify="left")
    for title in summary.plan.benchmarks.values():
        table.add_column(escape(title))
    for (challenger, reference), found in by_pair(summary.verdicts).items():
        cells = []
        for name in summary.plan.benchmarks:
            verdict = found[name]
            style = _STYLES.get(verdict.verdict, "dim")
            more = needed(verdict)
            text = f"{verdict.verdict}\n{figure(verdict)}" + (f"\nneeds {more}" if more else "")
            cells.append(f"[{style}]{escape(text)}[/{style}]")
        pair = f"{summary.arm(challenger).title} − {summary.arm(reference).title}"
        table.add_row(escape(pair), *cells)
    table.caption = (
        f"points, 95 % intervals; claimed where p < 0.05 after Holm "
        f"({len(summary.verdicts)} comparisons)"
    )
    if alone(summary.verdicts):
        table.caption += f". {alone(summary.verdicts)}"
    return table


def _scores_title(summary: Summary) -> str:
    over = "mean ± SD over seeds" if summary.plan.seeds > 1 else "95 % interval"
    return f"scores ({over}) and cost"


def _scores(summary: Summary) -> Table:
    titles = summary.plan.benchmarks
    table = Table("arm", title=_scores_title(summary), title_justify="left")
    for title in (*titles.values(), *COSTS):
        table.add_column(escape(title), justify="right")
    for arm in summary.arms:
        cells = [score_text(arm, name) for name in titles]
        table.add_row(escape(arm.title), *cells, *cost_cells(arm))
    constant = [f"{summary.majority[name]:.1f}" for name in titles]
    table.add_row("best constant answer", *constant)
    table.caption = f"best constant answer: {CONSTANT}"
    return table
