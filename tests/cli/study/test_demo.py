"""``manyeyes demo``: what is handed to the study, and what is printed of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from cli_runs import invoke, the_object
from manyeyes.study.demonstration import demo

FOUND = {
    "arms": {"clip": {"vqa": 1.0}, "comm": {"vqa": 2.0}, "text_only": {"vqa": 0.5}},
    "seconds": 1.5,
    "peak_gib": 0.5,
    "report": "d/report.html",
    "model": "d/model",
}


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> list[demo.Budget]:
    """Replace the study by one that only notes its budget."""
    noted: list[demo.Budget] = []

    def run_demo(out: Path, *, seed: int, budget: demo.Budget, progress: Any) -> dict[str, Any]:
        noted.append(budget)
        progress("images", 1, 2)
        return {**FOUND, "seed": seed}

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.setattr(demo, "demo_table", lambda out: Table(title="scores"))
    return noted


def test_the_standard_demo(budgets: list[demo.Budget]) -> None:
    result = invoke("demo", "--seed", "3", "--json")
    assert the_object(result) == {**FOUND, "seed": 3}
    assert budgets == [demo.Budget()]


def test_a_smaller_demo(budgets: list[demo.Budget]) -> None:
    words = ("--images", "64", "--limit", "5", "--set", "training.max_steps=2")
    result = invoke("demo", *words)
    assert "report: d/report.html" in result.stdout
    (budget,) = budgets
    assert budget.images == {"train": 64, "test": 4}
    assert set(budget.limits.values()) == {5}
    assert budget.settings == ("training.max_steps=2",)
