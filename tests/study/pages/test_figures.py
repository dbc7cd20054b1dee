"""Figures fit their data, and nothing in them hides anything else."""

from __future__ import annotations

import itertools
import re

import pytest

from manyeyes.lines import count_text, number_text
from manyeyes.study.pages.figures import axis_ticks, curves, level_weights
from manyeyes.study.pages.scatter import Point, scatter
from manyeyes.study.record import CurvePoint


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (160, 2, "160"),
        (1234.5, 3, "1,230"),
        (0.000123, 2, "0.00012"),
        (-2.5, 3, "−2.5"),
        (0, 3, "0"),
    ],
)
def test_numbers_have_no_exponent_and_one_minus_sign(value: float, digits: int, text: str) -> None:
    assert number_text(value, digits) == text


def test_counts_just_below_a_unit_have_no_exponent() -> None:
    assert count_text(999_600) == "1,000 k"
    assert count_text(1_860_000) == "1.86 M"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1.02, 2.05, [1.0, 1.5, 2.0, 2.5]),
        (0.1, 4.9, [0.0, 2.0, 4.0, 6.0]),
        (3.0, 3.0, [2.6, 2.8, 3.0, 3.2, 3.4]),
        (-1.0, 1.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
    ],
)
def test_axes_fit_their_values(low: float, high: float, ticks: list[float]) -> None:
    assert axis_ticks(low, high) == pytest.approx(ticks)


def lines_of(arms: int) -> tuple[str, dict[str, str]]:
    colours = {f"arm{i}": f"var(--c{i % 6})" for i in range(arms)}
    losses = {arm: [CurvePoint("s", step, 2.0 / step) for step in (1, 2)] for arm in colours}
    numbers = {arm: str(i) if arms > 6 else "" for i, arm in enumerate(colours)}
    return curves(losses, "s", colours, numbers), colours


@pytest.mark.parametrize("arms", [2, 6, 19])
def test_no_two_lines_look_alike(arms: int) -> None:
    drawn, _ = lines_of(arms)
    looks = re.findall(r'stroke="([^"]+)" stroke-dasharray="([^"]+)"', drawn)
    assert len(looks) == len(set(looks)) == arms
    if arms <= 6:
        assert len({dashes for _, dashes in looks}) == arms  # also where no colour is seen


def test_numbers_at_the_ends_of_equal_lines_stand_apart() -> None:
    drawn, _ = lines_of(19)
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="start"', drawn))
    assert len(heights) == 19
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 9.0 - 0.11


def test_levels_are_named_below_their_bars() -> None:
    drawn = level_weights({3: 0.75, 6: -0.25}, "red", "clip")
    assert re.findall(r">(3|6)</text>", drawn) == ["3", "6"]
    assert "clip level 6: −0.250" in drawn and ">−0.25<" in drawn
    assert "-0.25" not in drawn


def test_equal_costs_stand_side_by_side() -> None:
    points = [Point(name, "red", 2.56, 70.0) for name in "abc"] + [Point("d", "blue", 160.4, 80.0)]
    drawn = scatter(points, x_title="GFLOP", name="scores")
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert all(abs(a - b) >= 14.9 for a, b in itertools.combinations(places, 2))
    assert max(places) <= 426.0
    assert ">160<" in drawn and ">2.56<" in drawn


def test_scores_near_each_other_get_an_axis_of_their_own() -> None:
    drawn = scatter([Point("a", "red", 1, 86.7), Point("b", "red", 2, 86.9)], x_title="", name="")
    ticks = [float(t) for t in re.findall(r'text-anchor="end" class="small">([\d.]+)<', drawn)]
    assert ticks[0] <= 86.7 and ticks[-1] >= 86.9
    assert 2.0 <= ticks[-1] - ticks[0] <= 4.0
