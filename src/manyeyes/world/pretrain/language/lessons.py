"""Lessons: what the documents of a language model's training are like, easiest first.

In short trials (one seed each, ours) a model that met everything at once had not learnt to find the
object that is asked for when one that met two objects first long had; and boxes, of which a mixed
lesson teaches nothing in 30,000 documents, were learnt within 7,000 when hardly anything else was
asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manyeyes.world.language.dialogue import KIND_WEIGHTS

EXCHANGES = 24

TEXT_WEIGHTS: dict[str, float] = {
    **KIND_WEIGHTS, "rec": 1.0, "related": 0.3, "relation": 0.5, "describe": 4.0
}  # fmt: skip
"""How often each kind is asked of a description: comparing written coordinates is hard to learn."""

LAYOUT_WEIGHTS: dict[str, float] = {**KIND_WEIGHTS, "rec": 1.0, "describe": 5.0}
"""How often each kind is asked of a layout. Describing an object teaches most: every word of the
reply asks for the same object."""

_PLACED_WEIGHTS: dict[str, float] = {
    **KIND_WEIGHTS, "rec": 10.0, "relation": 3.0, "related": 2.0, "compare": 2.0, "count": 2.0
}  # fmt: skip
"""How often each kind is asked of a model that knows boxes."""


@dataclass(frozen=True)
class Lesson:
    """What documents below index ``end`` of the training split are like.

    ``objects``: least and most objects (None: as in pictures). ``asked`` and ``asked_of_text``: how
    often each kind is asked of a layout and of a description. ``words``: share of descriptions,
    ``placeless`` the share of those without boxes. ``exchanges``: at most so many. ``captions``:
    whether some ask for a caption, and some documents are nothing else. ``more_captions``: so many
    exchanges of ``EXCHANGES`` are captions besides: to name every object once, a model must see
    what it has said, which takes more captions than that. ``clean``: layouts name every cell and
    leave no word out.
    """

    end: int
    objects: tuple[int, int] | None = None
    asked: Mapping[str, float] | None = None
    asked_of_text: Mapping[str, float] | None = None
    words: float = 0.0
    placeless: float = 0.6
    exchanges: int = EXCHANGES
    captions: bool = False
    more_captions: int = 0
    clean: bool = True

    @property
    def layout_weights(self) -> Mapping[str, float]:
        """How often each kind is asked of a layout."""
        return LAYOUT_WEIGHTS if self.asked is None else self.asked

    @property
    def text_weights(self) -> Mapping[str, float]:
        """How often each kind is asked of a description."""
        return TEXT_WEIGHTS if self.asked_of_text is None else self.asked_of_text


def _equally(*kinds: str) -> dict[str, float]:
    return {kind: LAYOUT_WEIGHTS[kind] for kind in kinds}


_BINDING_KINDS = ("color", "describe", "mark", "shape", "size", "texture")
"""Kinds that ask for one object by its looks: to answer is to find it and to read it."""

_BINDING = (
    Lesson(6_000, (2, 2), _equally(*_BINDING_KINDS)),
    Lesson(12_000, (2, 4), _equally(*_BINDING_KINDS, "count", "exist", "presence", "region")),
    Lesson(16_000, captions=True, clean=False),
)


def _placing(first: int) -> tuple[Lesson, ...]:
    """Return the lessons from document ``first`` on that teach boxes, then what needs places."""
    boxes = {"rec": 6.0, "region": 1.0}
    of_text = {"rec": 6.0, "region": 2.0, "describe": 1.0}
    where = {**boxes, "rec": 4.0, "relation": 3.0, "related": 1.0, "compare": 2.0, "count": 3.0}
    return (
        Lesson(first + 2_400, (1, 1), boxes, exchanges=10),
        Lesson(first + 9_000, (1, 3), boxes, of_text, words=0.25, placeless=0.0, exchanges=10),
        Lesson(first + 14_000, (2, 4), where, of_text, words=0.25, placeless=0.0),
    )


CHAT_PLACES = 33_600
"""First document of the lessons that teach boxes."""

CHAT_LESSONS = (
    *_BINDING,
    Lesson(CHAT_PLACES, words=0.25, captions=True, clean=False),
    *_placing(CHAT_PLACES),
)

LAST_LESSON = Lesson(
    0,
    asked=_PLACED_WEIGHTS,
    asked_of_text=_PLACED_WEIGHTS,
    words=0.15,
    captions=True,
    more_captions=3,
    clean=False,
)
"""What all later documents are like, and those of other splits."""


def lesson_of(index: int, lessons: Sequence[Lesson]) -> Lesson:
    """Return the lesson of training document ``index``."""
    return next((lesson for lesson in lessons if index < lesson.end), LAST_LESSON)
