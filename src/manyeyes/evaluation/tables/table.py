"""Results as a table for the terminal: each score with its interval, beside its baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from manyeyes.evaluation.contract import CONSTANT, BenchmarkResult
from manyeyes.evaluation.tables.comparison import Comparison
from manyeyes.evaluation.tables.paired_grades import BOOTSTRAP

COLUMNS = ("benchmark", "metric", "n", "score [95 %]", "majority", "text only", "unparsed")


def format_table(results: Mapping[str, Any], *, details: bool = False) -> Table:
    """Lay out what `runner.evaluate` returned: one row per benchmark, with ``details`` per metric.

    Columns: benchmark, metric (with the variant, unless official), n questions behind it, score
    with 95 % interval, majority answer, text only, unparsable answers.
    """
    choices = {entry["choice"] for entry in results["benchmarks"].values()} - {"generate"}
    asked = "".join(f", choice {mode}" for mode in sorted(choices))
    table = Table(title=f"split {results['split']}{asked}", title_justify="left")
    for name in COLUMNS[:2]:
        table.add_column(name)
    for name in COLUMNS[2:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in result_rows(results, details=details):
        table.add_row(*row)
    sources = {entry["majority"]["source"] for entry in results["benchmarks"].values()}
    counted = f"counted on the {' and '.join(sorted(sources))}"
    table.caption = f"n: questions behind the score; majority: {CONSTANT}, {counted}"
    return table


def result_rows(results: Mapping[str, Any], *, details: bool = False) -> Iterator[tuple[str, ...]]:
    """Yield the rows of `format_table`, without headings."""
    for name, entry in results["benchmarks"].items():
        model = entry["model"]
        for metric in list(model["metrics"]) if details else [entry["metric"]]:
            yield (
                name,
                metric if entry["variant"] == "official" else f"{metric} ({entry['variant']})",
                str(model.get("counted", {}).get(metric, entry["n"])),
                _with_interval(model, metric),
                _value(entry["majority"], metric),
                _value(entry["text_only"], metric),
                str(model["parse_failures"]),
            )


def format_result(result: BenchmarkResult, *, title: str | None = None) -> Table:
    """Lay out one result: a row per metric with n and its 95 % interval."""
    named = f"{result.benchmark} ({result.variant})"
    table = Table(title=f"{title}: {named}" if title else named, title_justify="left")
    table.add_column("metric")
    for name in ("n", "score [95 %]"):
        table.add_column(name, justify="right", no_wrap=True)
    arm = result.to_json()
    for score in result.scores:
        table.add_row(score.metric, str(score.n), _with_interval(arm, score.metric))
    if result.parse_failures:
        table.caption = f"{result.parse_failures} answers could not be read and count as wrong"
    return table


def format_breakdowns(result: BenchmarkResult) -> list[Table]:
    """Lay out the headline's breakdowns, one table each."""
    score = result.headline
    tables = []
    for breakdown, values in score.by.items():
        table = Table(title=f"{score.metric} by {breakdown}", title_justify="left")
        table.add_column(breakdown)
        table.add_column(score.metric, justify="right")
        for group, value in values.items():
            table.add_row(group, f"{value:.{_digits(score.metric)}f}")
        tables.append(table)
    return tables


def format_comparison(comparison: Comparison) -> Table:
    """Lay out a comparison: per metric A, B, their difference with interval, tests, and power.

    The last column is the smallest true difference that so many items find with 80 % power.
    """
    table = Table(
        title=f"A - B: {comparison.benchmark} ({comparison.variant})", title_justify="left"
    )
    table.add_column("metric")
    columns = ("n", "A", "B", "A - B [95 %]", "p", "p (Holm)", "McNemar mid-p", "detectable")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=name.startswith("A - B"))
    for found in comparison.metrics:
        digits = _digits(found.metric)
        difference = f"{found.difference:+.{digits}f}"
        if found.ci95 is not None:
            difference += " [{:.{d}f}, {:.{d}f}]".format(*found.ci95, d=digits)
        smallest = comparison.draws if found.test == BOOTSTRAP else None
        table.add_row(
            found.metric,
            str(found.n),
            f"{found.a:.{digits}f}",
            f"{found.b:.{digits}f}",
            difference,
            _p_value(found.p, smallest),
            _p_value(found.p_holm, smallest),
            _p_value(None if found.mcnemar is None else found.mcnemar.mid_p),
            "-" if found.detectable is None else f"{found.detectable:.{digits}f}",
        )
    family = ", ".join(comparison.family) or "none"
    table.caption = f"Holm's family: {family}; intervals and p are clustered by image"
    return table


def _p_value(p: float | None, draws: int | None = None) -> str:
    """Three decimals; of a bootstrap, nothing below what its draws can show."""
    if p is None:
        return "-"
    least = max(0.001, 2 / draws if draws else 0.0)
    return f"< {least:.2g}" if p < least else f"{p:.3f}"


def _with_interval(arm: Mapping[str, Any], metric: str) -> str:
    digits = _digits(metric)
    text = _value(arm, metric)
    if metric in arm["ci95"]:
        low, high = arm["ci95"][metric]
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return text


def _value(arm: Mapping[str, Any] | None, metric: str) -> str:
    return "-" if arm is None else f"{arm['metrics'][metric]:.{_digits(metric)}f}"


def _digits(metric: str) -> int:
    """Caption metrics and GQA's distribution are small numbers; everything else is a percentage."""
    small = metric in ("CIDEr", "distribution") or metric.startswith(("BLEU", "ROUGE"))
    return 3 if small else 1
