"""Every benchmark runs at tiny sizes, checks that both sides compute the same, and reports."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the scripts importable, as they are when they are run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield
    for name in (
        "pair",
        "timing",
        "alignment_step",
        "memory",
        "memory_cases",
        "packing",
        "peaks",
        "seven_billion",
        "gpu",
        "generate",
        "many_questions",
        "own_data",
        "adapter_decoding",
        "score_speed",
        "serve_speed",
        "shared_store",
    ):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "ratios"),
    [
        ("alignment_step", 4),
        ("packing", 3),
        ("generate", 2),
        ("many_questions", 5),
        ("adapter_decoding", 1),
        ("serve_speed", 2),
        ("shared_store", 1),
    ],
)
def test_a_quick_run_reports_rates_and_ratios(
    name: str, ratios: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--quick", "--json", "--rounds", "1"])
    importlib.import_module(name).main()
    found = json.loads(capsys.readouterr().out)
    assert len(found["ratios"]) == ratios
    assert all(ratio["median"] > 0 for ratio in found["ratios"].values())
    assert all(rate > 0 for rate in found["rates"].values())
    assert found["environment"]["threads"] == torch.get_num_threads()


def test_different_weights_are_noticed() -> None:
    alignment = importlib.import_module("alignment_step")
    pair = importlib.import_module("pair")
    ours, processor = pair.build_ours(pair.QUICK)
    peer = pair.build_peer(pair.QUICK, ours)
    rows = pair.make_rows(pair.QUICK, processor, 4)
    losses = alignment.check_equal(ours, processor, peer, rows, pair.QUICK)
    assert losses["loss, ours"] == pytest.approx(losses["loss, peer"])
    with torch.no_grad():
        ours.fusion.get_submodule("projector")[0].bias += 0.1
    with pytest.raises(AssertionError, match="close"):
        alignment.check_equal(ours, processor, peer, rows, pair.QUICK)


def test_ratios_are_taken_per_round() -> None:
    timing = importlib.import_module("timing")
    slow = timing.Series("slow", 10, [timing.Clock(4.0, 8.0), timing.Clock(6.0, 8.0)])
    fast = timing.Series("fast", 20, [timing.Clock(4.0, 4.0), timing.Clock(2.0, 4.0)])
    found = timing.ratio(slow, fast)
    assert (found["lowest"], found["highest"]) == (2.0, 6.0)
    assert found["median"] == 4.0
    assert found["cpu_median"] == 4.0
    assert slow.rate() == 2.0


def test_scoring_speed_is_measured_on_generated_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["score_speed", "--quick", "--json"])
    importlib.import_module("score_speed").main()
    found = json.loads(capsys.readouterr().out)
    assert found["vqa"]["questions"] == 400 and found["cider"]["images"] == 40
    assert 0 < found["vqa"]["accuracy"] < 100 and found["cider"]["CIDEr"] > 0
    assert found["vqa"]["total"] > 0 and found["cider"]["total"] > 0
    assert found["peak_gib"] >= found["vqa_peak_gib"] > 0


def test_own_pictures_become_a_report_step_by_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["own_data", "--quick", "--json"])
    importlib.import_module("own_data").main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "by iou" in found["what"] and "by exact" in found["what"]
    assert {"reading rows and pictures", "multitask", "boxes"} <= set(found["steps"])
    assert found["cpu"] == pytest.approx(sum(spent[1] for spent in found["steps"].values()))


def test_the_gpu_script_reports_steps_memory_and_decoding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny", "--json"])
    importlib.import_module("gpu").main()
    found = json.loads(capsys.readouterr().out)
    speeds = found["training"]
    assert {"manyeyes, LoRA, packed, stored", "manyeyes, full", "LLaVA, LoRA"} <= set(speeds)
    for speed in speeds.values():
        assert min(speed.values()) > 0
        assert speed["mfu"] == pytest.approx(speed["operations"] / found["peak_operations"])
    assert set(found["memory"]) == {"projector", "LoRA", "full"}
    assert min(peak["measured"] for peak in found["memory"].values()) > 0
    assert set(found["decoding"]) == {"plain", "LoRA", "adapter prompts"}


def test_check_says_what_a_step_holds() -> None:
    """In a process of its own, whose resident memory no other test has made grow before."""
    command = [sys.executable, BENCHMARKS / "memory.py", "--quick", "--json", "--only", "COMM"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)["cases"]
    assert found["said"] == pytest.approx(found["measured"], rel=0.15)
    assert found["resident"] > 0


def test_every_case_of_memory_is_a_recipe_made_small() -> None:
    cases = importlib.import_module("memory_cases")
    assert len(cases.CASES) >= 8
    for case in cases.CASES.values():
        recipe = cases.small_recipe(case)
        assert len(recipe.stages) == 1
        assert "checkpoint" not in recipe.model["language"]


def test_the_peak_of_a_step_counts_what_is_held_at_once() -> None:
    peaks = importlib.import_module("peaks")
    assert peaks.highest([4, 3, -4, 5, -8]) == 8
    assert peaks.highest([-4, 2]) == 0
    shared = torch.zeros(10)
    assert peaks.held_bytes([shared, shared[:3], torch.zeros(2)]) == 48
