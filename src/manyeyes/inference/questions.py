"""What is asked, and whoever answers: the questions of benchmarks and the models that see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from manyeyes.errors import RequestError
from manyeyes.records import IMAGE_PLACEHOLDER, Box, Point, Turn

AnswerKind = Literal["short", "caption", "long", "boxes", "detections"]
"""What an answer is: a word or phrase (cut at the first newline), a sentence, several of them, box
text, or the names and boxes of all objects."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    ``image`` is the path as its file writes it, until it is looked for in a data folder;
    ``cluster`` names what is not independent of it (its image); ``groups`` maps a breakdown to the
    item's group in it (``{"question_type": "count"}``); ``more_images`` are shown after ``image``;
    ``before`` are the turns of the conversation that the question ends (without ``<image>`` in them
    or in ``prompt``, all images stand before the first); ``size`` is (width, height) of the image,
    in pixels, where boxes are read or written; ``boxes`` and ``points`` fill the ``<boxes>`` and
    ``<points>`` of ``prompt``; ``candidates`` are texts of which one may be chosen instead of
    answering freely; ``choices`` are the ids of options that are no texts; ``split`` is the item's
    split where one file holds several; ``meta`` is what else the grader of the benchmark needs. Of
    an item that is not ``required`` a missing prediction is no error.
    """

    id: str
    image: str
    prompt: str
    references: tuple[str, ...]
    cluster: str
    answer: AnswerKind = "short"
    target: Box | None = None
    boxes: tuple[tuple[Box, ...], ...] = ()
    points: tuple[tuple[Point, ...], ...] = ()
    size: tuple[int, int] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    split: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    more_images: tuple[str, ...] = ()
    before: tuple[Turn, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """All images that the question is about, in order."""
        return (self.image, *self.more_images)

    def turns(self, *, shown: bool) -> list[Turn]:
        """Return the conversation up to the question, with one ``<image>`` per image if shown."""
        turns = [*self.before, Turn("user", self.prompt, self.boxes, points=self.points)]
        placed = any(IMAGE_PLACEHOLDER in turn.text for turn in turns)
        if not shown:
            return [replace(turn, text=_without_images(turn.text)) for turn in turns]
        if not placed:
            first = next(place for place, turn in enumerate(turns) if turn.role == "user")
            lead = f"{IMAGE_PLACEHOLDER}\n" * len(self.images)
            turns[first] = replace(turns[first], text=lead + turns[first].text)
        return turns


class Predictor(Protocol):
    """Whoever answers: a model, an oracle, a server."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever answers may change: weights and generation arguments."""

    @property
    def box_style(self) -> str:
        """The key of ``BOX_STYLES`` in which the answers write boxes."""

    @property
    def generation(self) -> Mapping[str, Any]:
        """Arguments of generation, as JSON values, for the record."""

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        """One raw answer per item, in the order of the items."""


class PartlyAnswered(RequestError):
    """Some questions could not be answered; ``answers`` holds the others by their place."""

    def __init__(self, message: str, answers: Mapping[int, str], *, status: int) -> None:
        self.answers = answers
        super().__init__(message, status=status)


@runtime_checkable
class Measuring(Protocol):
    """A predictor that knows how long a question may be."""

    def check_lengths(self, items: Sequence[Item]) -> None:
        """Raise ``DataError`` if a question is longer than the model reads."""


def _without_images(text: str) -> str:
    for written in (f"{IMAGE_PLACEHOLDER}\n", f"\n{IMAGE_PLACEHOLDER}", IMAGE_PLACEHOLDER):
        text = text.replace(written, "")
    return text
