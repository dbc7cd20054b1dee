"""What studies are made of: scores, losses, and questions with every arm's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from manyeyes.records import Box


@dataclass(frozen=True)
class Measure:
    """One score of one arm: ``value`` and ``ci95`` on the metric's scale, over ``n`` items."""

    metric: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None
    variant: str = "official"


@dataclass(frozen=True)
class CurvePoint:
    """Training loss (nats per supervised token) at an optimizer step of a stage."""

    stage: str
    step: int
    loss: float


@dataclass(frozen=True)
class Answer:
    """What one arm said to one item.

    ``score`` is the item's own score (a share 0..1; CIDEr-D on its own scale); ``boxes`` are the
    boxes found in ``text``, in pixels of the original image.
    """

    text: str
    score: float
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class StudyItem:
    """One question of one benchmark, with the truth and every arm's answer (by arm name).

    ``image`` is relative to the run folder, and so are ``more_images``, those that the question
    shows after it; ``cluster`` names the image for intervals; ``groups`` maps a breakdown to this
    item's group (``{"question_type": "count"}``). ``target`` lies in the first image.
    """

    benchmark: str
    id: str
    image: str
    cluster: str
    question: str
    truth: str
    size: tuple[int, int] | None = None
    target: Box | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    more_images: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """All images that the question shows, in order."""
        return (self.image, *self.more_images)


@dataclass(frozen=True)
class Seen:
    """Pictures that are asked about: ``asked`` in all, ``trained`` of them also in training rows.

    ``compared``: copies under other names were looked for, not only the same files.
    """

    asked: int
    trained: int
    compared: bool
