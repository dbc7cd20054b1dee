"""Boxes that stand in the texts of a file as numbers, as boxes in pixels.

    "[0.046,0.040,0.591,0.766]" ─style, size of the image→ "<boxes>" and ((x1, y1, x2, y2),)

LLaVA's mixtures write them so. Read as words they would be trained on and scored as words, whatever
the recipe's own style and geometry are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from manyeyes.conversation.boxes import lift_boxes
from manyeyes.data.readers import Outcome
from manyeyes.errors import ImageError
from manyeyes.images.reading import image_size
from manyeyes.records import Sample, Turn


def with_boxes(outcomes: Iterator[Outcome], style: str) -> Iterator[Outcome]:
    """Yield the outcomes with the boxes lifted out of their texts; errors as they are.

    ``style``: in which they are written, a key of ``BOX_STYLES``. Samples with several images, or
    none, stay as they are, and so do turns that have boxes already. An image that cannot be opened
    is an error of its row.

    Raises:
        UsageError: an unknown style.
    """
    for outcome in outcomes:
        if not isinstance(outcome, Sample) or len(outcome.images) != 1:
            yield outcome
            continue
        try:
            yield lifted(outcome, style)
        except ImageError as error:
            yield error


def lifted(sample: Sample, style: str) -> Sample:
    """Return a sample of one image with the boxes lifted out of its texts."""
    if not any("[" in turn.text for turn in sample.turns):
        return sample
    size = image_size(sample.images[0])
    return replace(sample, turns=tuple(_lifted(turn, style, size) for turn in sample.turns))


def _lifted(turn: Turn, style: str, size: tuple[int, int]) -> Turn:
    if turn.boxes:
        return turn
    text, groups = lift_boxes(turn.text, style=style, width=size[0], height=size[1])
    return replace(turn, text=text, boxes=tuple(groups)) if groups else turn
