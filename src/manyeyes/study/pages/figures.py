"""Figures of a report as inline SVG: bars with intervals, curves, level weights.

Every figure is drawn for a width of 440 px and scales down to a phone; colours are the page's CSS
variables (``--c0`` ... for contestants, ``--base`` for baselines), so dark pages work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from manyeyes.lines import with_minus
from manyeyes.study.record import CurvePoint, Measure

WIDTH = 440
_LABEL, _RIGHT, _BAR, _GAP = 130, 46, 11, 12


def bars(
    groups: Mapping[str, Mapping[str, Measure]],
    colours: Mapping[str, str],
    *,
    names: Mapping[str, str],
    numbers: Mapping[str, str] | None = None,
    top: float = 100.0,
) -> Markup:
    """Horizontal bars: one block per group, one bar per arm with its 95 % interval.

    Args:
        groups: group -> arm -> score. colours: arm -> CSS colour, in drawing order.
        names: arm -> title, read out by screen readers and shown on hover. top: end of the axis.
        numbers: arm -> what stands before its bar, where colours do not tell the arms apart.
    """
    shift = 24 if numbers and any(numbers.values()) else 8
    plot = WIDTH - _LABEL - _RIGHT
    block = _BAR * len(colours) + _GAP
    parts = [_grid(plot, block * len(groups), top)]
    for row, (group, measures) in enumerate(groups.items()):
        y = row * block + 4
        n = max(measure.n for measure in measures.values())
        middle = y + _BAR * len(colours) / 2
        parts.append(draw_text(_LABEL - shift, middle - 1, group, anchor="end"))
        count = f"n = {n}"
        parts.append(draw_text(_LABEL - shift, middle + 11, count, anchor="end", style="small"))
        for index, (arm, colour) in enumerate(colours.items()):
            if arm in measures:
                place = (_LABEL, y + index * _BAR, plot)
                parts.append(_bar(place, measures[arm], top, colour, f"{group}, {names[arm]}"))
            if numbers:
                low = y + (index + 1) * _BAR - 3
                parts.append(draw_text(_LABEL - 5, low, numbers[arm], anchor="end", style="tiny"))
    return svg(parts, block * len(groups) + 22, f"Scores by group, 0 to {top:g}")


def _bar(
    place: tuple[float, float, float], measure: Measure, top: float, colour: str, name: str
) -> Markup:
    x, y, plot = place
    value = with_minus(f"{measure.value:.1f}")
    low, high = measure.ci95 or (measure.value, measure.value)
    interval = with_minus(f" [{low:.1f}, {high:.1f}]") if measure.ci95 else ""
    title = f"{name}: {value}{interval}"

    def at(score: float) -> float:
        return x + plot * min(max(score, 0.0), top) / top

    middle = y + _BAR / 2 - 1
    whisker = Markup('<line class="ci" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
        at(low), at(high), middle, middle
    )
    bar = Markup(
        '<g><title>{}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="2" '
        'fill="{}"/>{}</g>'
    )
    label = draw_text(max(at(measure.value), at(high)) + 5, middle + 3.5, value, style="small")
    return bar.format(title, x, y, at(measure.value) - x, _BAR - 2, colour, whisker) + label


def _grid(plot: float, height: float, top: float) -> Markup:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LABEL + share * plot
        lines.append(draw_line(x, 0, x, height))
        lines.append(draw_text(x, height + 15, f"{share * top:g}", anchor="middle", style="small"))
    return Markup("").join(lines)


def curves(
    losses: Mapping[str, Sequence[CurvePoint]],
    stage: str,
    colours: Mapping[str, str],
    numbers: Mapping[str, str] | None = None,
) -> Markup:
    """Training loss of one stage over optimizer steps, one line per arm; the axis fits the losses.

    Args:
        losses: arm -> its points. colours: arm -> CSS colour; its place decides the line's dashes.
        numbers: arm -> what stands at its line's end, where colours do not tell the arms apart.
    """
    lines = {arm: [p for p in points if p.stage == stage] for arm, points in losses.items()}
    lines = {name: smoothed(points) for name, points in lines.items() if points}
    every = [point for points in lines.values() for point in points]
    last = max(point.step for point in every)
    ticks = axis_ticks(min(point.loss for point in every), max(point.loss for point in every))
    left, width, height = 34, WIDTH - 54, 170

    def up(loss: float) -> float:
        return height + 8 - height * (loss - ticks[0]) / (ticks[-1] - ticks[0])

    parts = []
    for tick in ticks:
        parts.append(draw_line(left, up(tick), left + width, up(tick)))
        label = with_minus(f"{tick:g}")
        parts.append(draw_text(left - 5, up(tick) + 4, label, anchor="end", style="small"))
    for share in (0.0, 0.5, 1.0):
        x, anchor = left + share * width, "end" if share == 1.0 else "middle"
        parts.append(draw_text(x, height + 24, f"{share * last:.0f}", anchor=anchor, style="small"))
    for name, points in lines.items():
        path = " ".join(f"{left + width * p.step / last:.1f},{up(p.loss):.1f}" for p in points)
        line = Markup('<polyline class="curve" points="{}" stroke="{}" stroke-dasharray="{}"/>')
        parts.append(line.format(path, colours[name], dashes(name, colours)))
    ends = {name: up(points[-1].loss) for name, points in lines.items()}
    for name, y in _apart(ends, 9.0, height + 8.0).items() if numbers else ():
        parts.append(draw_text(left + width + 4, y + 3, (numbers or {})[name], style="tiny"))
    return svg(parts, height + 32, f"Training loss of stage {stage} by step")


_DASHES = ("none", "7 3", "2 3", "9 3 2 3", "14 4", "4 6")
"""How lines are broken. Colours and dashes together tell 36 arms apart."""


def dashes(arm: str, colours: Mapping[str, str]) -> str:
    """Return the ``stroke-dasharray`` of an arm's line, by its place among ``colours``.

    Up to six arms differ in colour and in dashes, for people and printers that see no colour.
    More arms take turns: the dashes change where the colours begin again.
    """
    place = list(colours).index(arm)
    turn = place if len(colours) <= len(_DASHES) else place // len(_DASHES)
    return _DASHES[turn % len(_DASHES)]


def line_sample(arm: str, colours: Mapping[str, str]) -> Markup:
    """Return a short piece of an arm's line, for a legend."""
    sample = Markup(
        '<svg class="sample" viewBox="0 0 34 8" aria-hidden="true"><line class="curve" x1="0" '
        'x2="34" y1="4" y2="4" stroke="{}" stroke-dasharray="{}"/></svg>'
    )
    return sample.format(colours[arm], dashes(arm, colours))


def _apart(places: Mapping[str, float], least: float, lowest: float) -> dict[str, float]:
    """Move labels up until neighbours stand ``least`` apart, from the lowest one on."""
    found: dict[str, float] = {}
    limit = lowest
    for name, y in sorted(places.items(), key=lambda place: -place[1]):
        found[name] = min(y, limit)
        limit = found[name] - least
    return found


def smoothed(points: Sequence[CurvePoint], limit: int = 60) -> list[CurvePoint]:
    """At most ``limit`` points: means of equal runs of neighbouring points, at their last step."""
    size = max(1, math.ceil(len(points) / limit))
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    return [
        CurvePoint(run[-1].stage, run[-1].step, sum(p.loss for p in run) / len(run)) for run in runs
    ]


def level_weights(weights: Mapping[int, float], colour: str, encoder: str) -> Markup:
    """One column per level, its number below; negative weights hang down.

    ``weights``: level -> weight; columns are scaled to the largest one.
    """
    largest = max([abs(weight) for weight in weights.values()] + [1e-9])
    depth = 40 if min(weights.values()) < 0 else 0
    height, step = 84, (WIDTH - 20) / max(8, len(weights))
    parts = [draw_line(10, height, WIDTH - 10, height)]
    for index, (level, weight) in enumerate(weights.items()):
        x, middle = 10 + index * step, 10 + (index + 0.5) * step
        size = (height - 18 if weight >= 0 else depth - 10) * abs(weight) / largest
        y = height - size if weight >= 0 else float(height)
        column = Markup(
            '<g><title>{} level {}: {}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" '
            'height="{:.1f}" rx="2" fill="{}"/></g>'
        )
        value = with_minus(f"{weight:.3f}")
        parts.append(column.format(encoder, level, value, x + 2, y, step - 4, size, colour))
        below = height + depth + 13
        parts.append(draw_text(middle, below, f"{level}", anchor="middle", style="small"))
        if len(weights) <= 12:
            label = with_minus(f"{weight:.2f}")
            parts.append(
                draw_text(middle, min(y, height) - 4, label, anchor="middle", style="small")
            )
    return svg(parts, height + depth + 18, f"Level weights of {encoder}")


def axis_ticks(low: float, high: float) -> list[float]:
    """Return three to six round values, evenly spaced, around ``low`` to ``high``.

    They are 1, 2 or 5 x 10^k apart. Equal ends get a tenth of their size to both sides.
    """
    if high <= low:
        room = 0.1 * abs(low) or 1.0
        low, high = low - room, high + room
    step = nice_ceiling((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 2, 5 x 10^k that is not below ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def svg(parts: Iterable[Markup], height: float, name: str) -> Markup:
    """Return a whole figure of ``parts``; ``name`` is read out by screen readers."""
    frame = Markup(
        '<svg class="figure" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>'
    )
    return frame.format(WIDTH, height, name, Markup("").join(parts))


def draw_line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Return a line of the grid."""
    line = Markup('<line class="grid" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(x1, y1, x2, y2)


def draw_text(x: float, y: float, text: str, *, anchor: str = "start", style: str = "") -> Markup:
    """Return a piece of text at a point."""
    label = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>')
    return label.format(x, y, anchor, style, escape(text))
