"""Score against cost as inline SVG: one point per arm with its interval over seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from manyeyes.lines import number_text, with_minus
from manyeyes.study.pages.figures import WIDTH, axis_ticks, draw_line, draw_text, svg

_LEFT, _TOP, _HEIGHT = 40, 10, 180
_EMPTY = 1.15
"""Costs that differ by less than this factor are drawn around the middle of such a range."""
_APART = 15.0
"""Centres of neighbouring dots are at least so far apart, in the units of the figure."""


@dataclass(frozen=True)
class Point:
    """One arm: cost ``x`` > 0, score ``y`` in points with its standard deviation ``spread``.

    ``number``: written into the dot where colours do not tell the arms apart.
    """

    name: str
    colour: str
    x: float
    y: float
    spread: float = 0.0
    number: str = ""


def scatter(points: Sequence[Point], *, x_title: str, name: str) -> Markup:
    """Draw score over cost; the cost axis is logarithmic, the score axis covers the points.

    Points of nearly equal cost stand side by side, so that none hides another.
    """
    plot = WIDTH - _LEFT - 14
    low, high = (f(point.x for point in points) for f in (min, max))
    middle = math.sqrt(low * high)
    ratio = max(high / low, _EMPTY) * 1.1
    start, end = middle / math.sqrt(ratio), middle * math.sqrt(ratio)
    ticks = _score_ticks(points)

    def across(x: float) -> float:
        return _LEFT + plot * math.log(x / start) / math.log(end / start)

    def up(y: float) -> float:
        return _TOP + _HEIGHT * (ticks[-1] - y) / (ticks[-1] - ticks[0])

    parts = []
    for tick in ticks:
        parts.append(draw_line(_LEFT, up(tick), _LEFT + plot, up(tick)))
        label = with_minus(f"{tick:g}")
        parts.append(draw_text(_LEFT - 6, up(tick) + 4, label, anchor="end", style="small"))
    for cost in dict.fromkeys((low, high)):
        place, label = (across(cost), _TOP + _HEIGHT + 16), number_text(cost)
        parts.append(draw_text(*place, label, anchor="middle", style="small"))
    parts.append(
        draw_text(_LEFT + plot / 2, _TOP + _HEIGHT + 32, x_title, anchor="middle", style="small")
    )
    places = _side_by_side([across(point.x) for point in points], _LEFT + plot)
    for point, x in zip(points, places, strict=True):
        parts.append(_dot(point, (x, up(point.y)), up(point.y + point.spread)))
    return svg(parts, _TOP + _HEIGHT + 40, name)


def _score_ticks(points: Sequence[Point]) -> list[float]:
    """Ticks around all points and their spread: at least two points wide, from 0 on if they are."""
    low, high = min(p.y - p.spread for p in points), max(p.y + p.spread for p in points)
    room = max(0.1 * (high - low), (2.0 - (high - low)) / 2)
    below = max(0.0, low - room) if low >= 0.0 else low - room
    return axis_ticks(below, high + room)


def _side_by_side(places: Sequence[float], right: float) -> list[float]:
    """Move places to the right until none is nearer than a dot to the one before, then back in."""
    found, order = list(places), sorted(range(len(places)), key=lambda index: places[index])
    for before, index in itertools.pairwise(order):
        found[index] = max(found[index], found[before] + _APART)
    limit = right
    for index in reversed(order):
        found[index] = min(found[index], limit)
        limit = found[index] - _APART
    return found


def _dot(point: Point, place: tuple[float, float], upper: float) -> Markup:
    x, y = place
    dot = Markup(
        "<g><title>{}: {} ± {:.1f}</title>"
        '<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="1.4"/>'
        '<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>{}</g>'
    )
    number = draw_text(x, y + 3, point.number, anchor="middle", style="number")
    return dot.format(
        point.name,
        with_minus(f"{point.y:.1f}"),
        point.spread,
        x,
        x,
        upper,
        2 * y - upper,
        point.colour,
        x,
        y,
        7 if point.number else 5,
        point.colour,
        number if point.number else "",
    )
