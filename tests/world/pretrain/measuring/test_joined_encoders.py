"""The comparison of encoders claims a gain only beyond three spreads of the better control."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyeyes.world.pretrain.measuring.gate import GATED, GateResult
from manyeyes.world.pretrain.measuring.joined_encoders import (
    ROWS,
    SeedSpread,
    gains,
    write_comparison,
)
from manyeyes.world.pretrain.measuring.probe import PROBED


def comparison(pair: float, control: float, spread: float) -> dict[str, dict[str, SeedSpread]]:
    rows = {name: {f: SeedSpread(0.5, spread) for f in PROBED} for name in ROWS}
    rows["clip 6 + mae 6"]["shape"] = SeedSpread(pair, spread)
    rows["control: mae 3 + 6"]["shape"] = SeedSpread(control, spread)
    return rows


@pytest.mark.parametrize(
    ("pair", "control", "spread", "claimed"),
    [(0.7, 0.6, 0.01, 1), (0.7, 0.6, 0.04, 0), (0.6, 0.7, 0.01, 0), (0.7, 0.7, 0.0, 0)],
)
def test_gain_needs_three_spreads_over_the_better_control(
    pair: float, control: float, spread: float, claimed: int
) -> None:
    assert len(gains(comparison(pair, control, spread))) == claimed


def test_less_distance_is_a_gain() -> None:
    rows = comparison(0.5, 0.5, 0.01)
    rows["clip 6 + dinov2 6"]["place_px"] = SeedSpread(0.3, 0.01)
    assert gains(rows) == ["- clip 6 + dinov2 6: place_px 0.300 against 0.500."]


def test_written_comparison_holds_every_row_and_the_gate(tmp_path: Path) -> None:
    gate = GateResult(6, dict.fromkeys(GATED, 0.91), 100, 5, 320, 2.0)
    write_comparison(comparison(0.7, 0.6, 0.01), [gate], tmp_path)
    record = json.loads((tmp_path / "compared.json").read_text(encoding="utf-8"))
    assert record["probes"]["clip 6 + mae 6"]["shape"] == [0.7, 0.01]
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in ROWS)
    assert "| 6 | 0.910 | 0.910 | 0.910 | 0.910 | 100 | 320 | 2 | yes |" in text
