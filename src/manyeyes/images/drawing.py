"""Boxes drawn onto a picture, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from manyeyes.errors import UsageError
from manyeyes.files import written_file
from manyeyes.records import Box

COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")
"""One per group of boxes, in turn."""

SMALLEST_SIDE = 384
"""Smaller pictures are enlarged by a whole factor first, so that lines do not hide the objects."""


def draw_boxes(
    image: Image.Image, groups: Sequence[Sequence[Box]], names: Sequence[str] = ()
) -> Image.Image:
    """Return a copy of an RGB image with every group of boxes (pixels of it) in its own colour.

    Boxes that reach beyond the picture are cut off at its edge. ``names``: one per group, written
    into each of its boxes.
    """
    factor = max(1, -(-SMALLEST_SIDE // max(image.size)))
    width, height = image.width * factor, image.height * factor
    canvas = image.resize((width, height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    line = max(2, max(width, height) // 200)
    for number, group in enumerate(groups):
        for x1, y1, x2, y2 in group:
            corners = _within(x1 * factor, width), _within(y1 * factor, height)
            opposite = _within(x2 * factor, width), _within(y2 * factor, height)
            color = COLORS[number % len(COLORS)]
            pen.rectangle((*corners, *opposite), outline=color, width=line)
            if names:
                pen.text((corners[0] + 2 * line, corners[1] + line), names[number], fill=color)
    return canvas


def save_drawing(
    image: Image.Image,
    groups: Sequence[Sequence[Box]],
    path: Path,
    names: Sequence[str] = (),
) -> Path:
    """Draw ``groups`` onto ``image`` and write it as PNG to ``path``; return the path.

    Raises:
        UsageError: the name does not end in ``.png``.
        WriteError: the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: boxes are drawn into a .png file")
    with written_file(path) as aside:
        draw_boxes(image, groups, names).save(aside, format="PNG")
    return path


def _within(position: float, length: int) -> float:
    return min(max(position, 0.0), length - 1.0)
