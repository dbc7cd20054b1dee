"""The records of box detection scorers: annotated objects and detections.

Boxes are [x, y, width, height] in pixels; ``image`` and ``category`` are places in lists, from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

BoxSize = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrueBox:
    """One annotated object.

    Crowd regions and ignored objects are neither hits nor misses; a crowd region takes any number
    of detections.
    """

    image: int
    category: int
    box: BoxSize
    area: float
    crowd: bool = False
    ignored: bool = False


@dataclass(frozen=True)
class FoundBox:
    """One detection."""

    image: int
    category: int
    box: BoxSize
    score: float


@dataclass(frozen=True)
class Shape:
    """How many images and categories there are."""

    images: int
    categories: int


def passed_over(box: TrueBox) -> bool:
    """Whether an object does not count."""
    return box.crowd or box.ignored
