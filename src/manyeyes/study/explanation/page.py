"""An explanation as one self-contained HTML page: the answer, masking, and heat over the image."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from manyeyes.files import write_text
from manyeyes.images.reading import load_image
from manyeyes.lines import number_text, with_minus
from manyeyes.records import Box
from manyeyes.study.explanation.attention import AttentionMap
from manyeyes.study.explanation.explain import Explanation
from manyeyes.study.pages.figures import level_weights
from manyeyes.study.pages.page import PALETTE, render
from manyeyes.study.pages.pictures import data_uri, in_pixels

TEMPLATE_FILE = "explanation.html.jinja"
HEAT = (230, 60, 20)
"""Colour of attention: the more, the less transparent."""

_STRONGEST = 0.8
"""Opacity of the largest weight of a map."""


def write_explanation(explanation: Explanation, path: Path) -> Path:
    """Write the page; return its path.

    Raises:
        ImageError: the image is gone or cannot be decoded.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render_explanation(explanation))
    return path


def render_explanation(explanation: Explanation) -> str:
    """Return the page; see `write_explanation`."""
    href = data_uri(load_image(explanation.image))
    detected = [found for objects in explanation.objects.values() for found in objects]
    labels = [(found.box, f"{found.label} {found.score or 0.0:.2f}") for found in detected]
    weights = {}
    for number, (encoder, values) in enumerate(explanation.level_weights.items()):
        colour = f"var(--c{number % PALETTE})"
        weights[encoder] = level_weights(values, colour, encoder)
    return render(
        TEMPLATE_FILE,
        explanation=explanation,
        caution=explanation.caution,
        name=Path(explanation.image).name,
        probability=probability,
        with_minus=with_minus,
        in_pixels=in_pixels,
        answered=_picture(explanation, href, _frames(explanation.boxes, "arm0")),
        found=_picture(explanation, href, _labelled(labels, explanation.size[0]))
        if detected
        else None,
        weights=weights,
        maps=[(shown, _heated(explanation, href, shown)) for shown in explanation.maps],
    )


def probability(log_p: float) -> str:
    """Return ``62.1 %``, of small ones two digits, or ``less than 0.0001 %``."""
    percent = 100 * math.exp(log_p)
    if percent < 1e-4:
        return "less than 0.0001 %"
    return f"{percent:.1f} %" if percent >= 0.1 else f"{number_text(percent, 2)} %"


def _heated(explanation: Explanation, href: str, shown: AttentionMap) -> Markup:
    if shown.grid is None:
        return _picture(explanation, href, _warm_boxes(shown), style="wide grey")
    x1, y1, x2, y2 = explanation.frame
    heat = Markup(
        '<image class="heat" href="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" '
        'preserveAspectRatio="none"/>'
    )
    drawn = heat.format(_heat_uri(shown.weights, shown.grid), x1, y1, x2 - x1, y2 - y1)
    return _picture(explanation, href, [drawn], style="wide grey")


def _heat_uri(weights: tuple[float, ...], grid: tuple[int, int]) -> str:
    """A PNG of one pixel per patch: one colour, more opaque where the weight is larger."""
    pixels = np.zeros((*grid, 4), dtype=np.uint8)
    pixels[..., :3] = HEAT
    pixels[..., 3] = np.array(_opacities(weights)).reshape(grid) * 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _opacities(weights: tuple[float, ...]) -> list[float]:
    """0 for no attention, `_STRONGEST` for the map's largest weight, in proportion between."""
    largest = max(weights) or 1.0
    return [_STRONGEST * weight / largest for weight in weights]


def _warm_boxes(shown: AttentionMap) -> list[Markup]:
    rectangle = Markup(
        '<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="rgb{}" '
        'fill-opacity="{:.3f}"><title>{:.1f} %</title></rect>'
    )
    drawn = []
    for box, weight, opacity in zip(
        shown.boxes, shown.weights, _opacities(shown.weights), strict=True
    ):
        place = (box[0], box[1], max(0.0, box[2] - box[0]), max(0.0, box[3] - box[1]))
        drawn.append(rectangle.format(*place, HEAT, opacity, 100 * weight))
    return drawn


def _frames(boxes: Iterable[Box], style: str) -> list[Markup]:
    frame = Markup('<rect class="box {}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>')
    return [
        frame.format(kind, x1, y1, max(0.0, x2 - x1), max(0.0, y2 - y1))
        for x1, y1, x2, y2 in boxes
        for kind in ("halo", style)
    ]


def _labelled(labels: Iterable[tuple[Box, str]], width: int) -> list[Markup]:
    """Frames with their texts, a thirtieth of the image's width high."""
    text = Markup('<text class="label" x="{:.2f}" y="{:.2f}" font-size="{:.2f}">{}</text>')
    drawn = []
    for box, said in labels:
        place = (box[0] + width / 100, box[1] + width / 28)
        drawn += [*_frames([box], "arm1"), text.format(*place, width / 30, said)]
    return drawn


def _picture(
    explanation: Explanation, href: str, drawn: Iterable[Markup], style: str = "wide"
) -> Markup:
    width, height = explanation.size
    svg = Markup(
        '<svg class="picture {5}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
        '<image class="base" href="{3}" width="{0}" height="{1}"/>{4}</svg>'
    )
    name = Path(explanation.image).name
    return svg.format(width, height, name, href, Markup("").join(drawn), style)
