"""What reports are made of: packaged templates, cards with pictures, marks.

Every page loads nothing: styles, figures and pictures are inside it. All text of models and data is
escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from manyeyes.images.overlap import iou
from manyeyes.records import Box
from manyeyes.study.pages.pictures import in_pixels
from manyeyes.study.record import Answer

STYLE_FILE = "report.css"
PALETTE = 6
"""Colours of contestants in the style sheet."""
LONG_TRUTH = 60
"""Characters of all references of an item above which only the first one is unfolded."""


@dataclass(frozen=True)
class AnswerRow:
    """One arm's answer on a picture card; ``mark`` is ✓, ✗ or a score in points.

    ``number``: the arm's, where colours do not tell arms apart. ``note``: what else is known of it.
    """

    name: str
    colour: str
    text: str
    mark: str
    number: str = ""
    note: str = ""


@dataclass(frozen=True)
class PictureCard:
    """One item with its picture."""

    picture: Markup
    reason: str
    question: str
    truth: str
    group: str
    answers: tuple[AnswerRow, ...]

    @property
    def references(self) -> tuple[str, str]:
        """The truth in two parts, where it is long: what is read at once, and what folds."""
        if len(self.truth) <= LONG_TRUTH:
            return self.truth, ""
        first, _, others = self.truth.partition("; ")
        return first, others


def render(template: str, **context: Any) -> str:
    """Return a packaged template filled in; names that it lacks are errors."""
    environment = Environment(
        loader=FunctionLoader(packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template(template)
    return page.render(style=Markup(packaged(STYLE_FILE)), **context)


def packaged(name: str) -> str:
    """Return the text of a file beside this module."""
    return files("manyeyes.study.pages").joinpath(name).read_text(encoding="utf-8")


def answer_row(
    title: str,
    answer: Answer,
    colour: str,
    number: str = "",
    *,
    target: Box | None = None,
    note: str = "",
) -> AnswerRow:
    """Return an answer as a card shows it: its boxes in pixels, with their IoU with ``target``."""
    marks = {0.0: "✗", 1.0: "✓"}
    mark = marks.get(answer.score, f"{100 * answer.score:.0f}")
    said = [
        in_pixels(box) + ("" if target is None else f" IoU\N{NO-BREAK SPACE}{iou(box, target):.2f}")
        for box in answer.boxes
    ]
    return AnswerRow(title, colour, "; ".join(said) or answer.text, mark, number, note)
