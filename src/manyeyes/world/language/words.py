"""The world's words: names of attribute values, plurals, articles, and what "left of" means.

Everything that people say about a scene is built from these few words, so that questions, captions,
expressions and statements agree about them.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyeyes.world.scene import COLORS, MARKS, SHAPES, SIZES, TEXTURES, Scene, WorldObject

RELATIONS: tuple[str, ...] = ("left", "right", "above", "below")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": SIZES,
    "color": COLORS,
    "texture": TEXTURES,
    "shape": SHAPES,
    "mark": MARKS,
}
"""Values of every attribute, in the order in which adjectives stand before a noun."""

RELATION_WORDS: dict[str, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
OPPOSITE: dict[str, str] = {"left": "right", "right": "left", "above": "below", "below": "above"}

NUMBER_WORDS: tuple[str, ...] = (
    "no", "one", "two", "three", "four", "five", "six",
    "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip

RELATION_MARGIN = 0.1
"""Smallest distance of centres along an axis that counts as apart, as a share of the side."""


def plural(noun: str) -> str:
    """Return the plural of a shape noun ("cross" gives "crosses")."""
    return noun + ("es" if noun.endswith("s") else "s")


def with_article(phrase: str) -> str:
    """Put "a" or "an" before ``phrase``."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def join_phrases(phrases: Sequence[str]) -> str:
    """Join as in running text: "x", "x and y", "x, y and z"."""
    if len(phrases) < 2:
        return "".join(phrases)
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def capitalize(sentence: str) -> str:
    """Return the sentence with its first letter in upper case and the rest untouched."""
    return sentence[:1].upper() + sentence[1:]


def offset(relation: str, subject: WorldObject, anchor: WorldObject) -> int:
    """Return how many pixels ``subject`` lies on that side of ``anchor`` (negative: none)."""
    if relation in ("left", "right"):
        distance = anchor.x - subject.x
    else:
        distance = anchor.y - subject.y
    return distance if relation in ("left", "above") else -distance


def margin(scene: Scene) -> float:
    """Return the distance in pixels from which on two centres count as apart along an axis."""
    return RELATION_MARGIN * min(scene.width, scene.height)


def dominant_relation(scene: Scene, subject: WorldObject, anchor: WorldObject) -> str | None:
    """Return the side of ``anchor`` on which ``subject`` mostly lies, or None if that is unclear.

    Clear means at least the margin away, and 1.5 times as far along this axis as along the other.
    """
    across, down = abs(anchor.x - subject.x), abs(anchor.y - subject.y)
    relation = max(RELATIONS, key=lambda name: offset(name, subject, anchor))
    far, near = max(across, down), min(across, down)
    return relation if far >= margin(scene) and far >= 1.5 * near else None
