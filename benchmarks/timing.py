"""Interleaved measurement: every round runs each variant once, and ratios are taken per round.

Other load on the machine then touches all variants alike. Wall time is what a user waits for; CPU
time (of all threads) is steadier where the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from manyeyes.environment import environment


@dataclass
class Clock:
    """Wall and CPU seconds of one measurement."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Clock]:
    """Yield a clock that holds the block's seconds when the block is left."""
    synchronize()
    clock, wall, cpu = Clock(), time.perf_counter(), time.process_time()
    yield clock
    synchronize()
    clock.wall, clock.cpu = time.perf_counter() - wall, time.process_time() - cpu


def synchronize() -> None:
    """Wait until the accelerator, if there is one, has done what it was asked."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


@dataclass
class Series:
    """Measurements of one variant, one per round, in seconds per ``units`` units of work."""

    name: str
    units: int
    clocks: list[Clock] = field(default_factory=list)

    def rate(self) -> float:
        """Median units per wall second."""
        return self.units / statistics.median(clock.wall for clock in self.clocks)


def interleave(
    variants: Mapping[str, Callable[[], Clock]], units: int, rounds: int
) -> dict[str, Series]:
    """Run every variant once per round, in turn, the order reversed in every second round."""
    series = {name: Series(name, units) for name in variants}
    for number in range(rounds):
        names = list(variants) if number % 2 == 0 else list(variants)[::-1]
        for name in names:
            clock = variants[name]()
            series[name].clocks.append(clock)
            seconds = f"{clock.wall:.2f} s, CPU {clock.cpu:.2f} s"
            print(f"round {number + 1}/{rounds}  {name}: {seconds}", file=sys.stderr, flush=True)
    return series


def ratio(slow: Series, fast: Series) -> dict[str, float]:
    """How many times faster ``fast`` is: median of the rounds' ratios, their range, CPU median."""
    pairs = list(zip(slow.clocks, fast.clocks, strict=True))
    scale = fast.units / slow.units
    wall = [scale * a.wall / b.wall for a, b in pairs]
    cpu = [scale * a.cpu / b.cpu for a, b in pairs]
    return {
        "median": statistics.median(wall),
        "lowest": min(wall),
        "highest": max(wall),
        "cpu_median": statistics.median(cpu),
    }


def arguments(description: str) -> argparse.ArgumentParser:
    """The parser all benchmarks share: ``--json``, ``--quick``, ``--rounds``, ``--threads``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: checks that it runs")
    parser.add_argument("--rounds", type=int, default=None, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=None, help="threads of torch")
    return parser


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {**environment(), "threads": torch.get_num_threads()}


def show(
    title: str,
    series: Mapping[str, Series],
    ratios: Mapping[str, Mapping[str, float]],
    unit: str,
    *,
    as_json: bool,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Print rates and ratios as tables, or all as one JSON object."""
    if as_json:
        rates = {name: item.rate() for name, item in series.items()}
        rounds = {name: [vars(clock) for clock in item.clocks] for name, item in series.items()}
        figures = {"unit": unit, "rates": rates, "ratios": dict(ratios), "rounds": rounds}
        print(json.dumps({**figures, **(extra or {}), "environment": machine()}))
        return
    table = Table(title=title, title_justify="left")
    for column in ("variant", unit, "CPU s per unit"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, item in series.items():
        cpu = statistics.median(clock.cpu for clock in item.clocks) / item.units
        table.add_row(name, f"{item.rate():.3g}", f"{cpu:.3g}")
    faster = Table(title="times faster", title_justify="left")
    for column in ("ratio", "median", "range", "by CPU time"):
        faster.add_column(column, justify="left" if column == "ratio" else "right")
    for name, found in ratios.items():
        spread = f"{found['lowest']:.2f}–{found['highest']:.2f}"
        faster.add_row(name, f"{found['median']:.2f}", spread, f"{found['cpu_median']:.2f}")
    console = Console()
    console.print(table, faster)
    for key, value in (extra or {}).items():
        console.print(f"{key}: {value}")
