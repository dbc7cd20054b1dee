"""``manyeyes demo``: what is handed to the study, and what is printed of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli_runs import invoke, the_object
from manyeyes.study.comparison.summary import summarize
from manyeyes.study.demonstration import demo
from study_trials import write_study

FOUND = {
    "arms": {"clip": {"vqa": 1.0}, "comm": {"vqa": 2.0}, "text_only": {"vqa": 0.5}},
    "verdict": "COMM beats CLIP alone.",
    "seconds": 1.5,
    "peak_gib": 0.5,
    "report": "d/report.html",
    "model": "d/model",
}


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[demo.DemoSize]:
    """Replace the study by one that only notes its size."""
    noted: list[demo.DemoSize] = []

    write_study(tmp_path, images=2, seeds=1)
    summary = summarize(tmp_path)

    def run_demo(out: Path, *, seed: int, size: demo.DemoSize, progress: Any) -> demo.Demo:
        noted.append(size)
        progress("images", 1, 2)
        return demo.Demo(summary, {**FOUND, "seed": seed})

    monkeypatch.setattr(demo, "run_demo", run_demo)
    return noted


def test_the_standard_demo(sizes: list[demo.DemoSize]) -> None:
    result = invoke("demo", "--seed", "3", "--json")
    assert the_object(result) == {**FOUND, "seed": 3}
    assert sizes == [demo.DemoSize()]


def test_a_smaller_demo(sizes: list[demo.DemoSize]) -> None:
    words = ("--images", "64", "--limit", "5", "--set", "training.max_steps=2")
    result = invoke("demo", *words)
    assert "COMM beats CLIP alone." in result.stdout
    assert "report: d/report.html" in result.stdout
    (size,) = sizes
    assert size.images == {"train": 64, "test": 11}
    assert set(size.limits.values()) == {5}
    assert size.settings == ("training.max_steps=2",)
