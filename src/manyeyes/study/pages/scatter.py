"""Score against cost as inline SVG: one point per arm with its interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from manyeyes.study.pages.figures import WIDTH, draw_line, draw_text, svg

_LEFT, _TOP, _HEIGHT = 40, 10, 180
_EMPTY = 1.15
"""Costs that differ by less than this factor are drawn around the middle of such a range."""


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
    """Draw score over cost; the cost axis is logarithmic, the score axis covers the points."""
    plot = WIDTH - _LEFT - 14
    low, high = (f(point.x for point in points) for f in (min, max))
    middle = math.sqrt(low * high)
    ratio = max(high / low, _EMPTY) * 1.1
    start, end = middle / math.sqrt(ratio), middle * math.sqrt(ratio)
    bottom, top = _round_range(
        min(p.y - p.spread for p in points), max(p.y + p.spread for p in points)
    )

    def at(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / start) / math.log(end / start)
        return _LEFT + plot * across, _TOP + _HEIGHT * (top - y) / (top - bottom)

    parts = []
    for share in (0.0, 0.5, 1.0):
        value = bottom + share * (top - bottom)
        _, y = at(middle, value)
        parts.append(draw_line(_LEFT, y, _LEFT + plot, y))
        parts.append(draw_text(_LEFT - 6, y + 4, f"{value:g}", anchor="end", style="small"))
    for cost in dict.fromkeys((low, high)):
        x, _ = at(cost, top)
        parts.append(
            draw_text(x, _TOP + _HEIGHT + 16, f"{cost:.3g}", anchor="middle", style="small")
        )
    parts.append(
        draw_text(_LEFT + plot / 2, _TOP + _HEIGHT + 32, x_title, anchor="middle", style="small")
    )
    parts += [
        _dot(point, at(point.x, point.y), at(point.x, point.y + point.spread)[1])
        for point in points
    ]
    return svg(parts, _TOP + _HEIGHT + 40, name)


def _dot(point: Point, place: tuple[float, float], upper: float) -> Markup:
    x, y = place
    dot = Markup(
        "<g><title>{}: {:.1f} ± {:.1f}</title>"
        '<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="1.4"/>'
        '<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>{}</g>'
    )
    number = draw_text(x, y + 3, point.number, anchor="middle", style="number")
    return dot.format(
        point.name,
        point.y,
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


def _round_range(low: float, high: float) -> tuple[float, float]:
    """A range of round ends around two values, at least two points wide, from 0 on if they are."""
    width = max(2.0, high - low)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if width <= 4 * s or s == 100)
    bottom = math.floor((low - 0.1 * width) / step) * step
    top = math.ceil((high + 0.1 * width) / step) * step
    return float(max(bottom, 0.0) if low >= 0.0 else bottom), float(top)
