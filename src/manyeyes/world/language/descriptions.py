"""Complete descriptions of a scene as text: what a language model reads in place of an image.

Only the text-only pretraining of the shipped language model uses them; no image is ever paired with
one. Objects come in random order, each with all attributes and its box.
"""

from __future__ import annotations

from random import Random

from manyeyes.boxes import format_boxes
from manyeyes.records import Box
from manyeyes.world.language.phrases import filters_of, noun_phrase
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.scene import Scene, WorldObject

BOX_STYLE = "shikra"


def description(scene: Scene, rng: Random, *, boxes: bool = True) -> str:
    """Return a description of every object of ``scene``, in one of three layouts.

    ``boxes`` adds each object's box; without them the text says nothing about places.
    """
    items = rng.sample(scene.objects, len(scene.objects))
    layout = rng.choice((_phrase, _listing, _fields))
    order = rng.sample(list(ATTRIBUTES), len(ATTRIBUTES))
    parts = [layout(item, order) for item in items]
    if boxes:
        texts = (box_text(scene, item.box) for item in items)
        parts = [f"{part} {text}" for part, text in zip(parts, texts, strict=True)]
    return "; ".join(parts)


def box_text(scene: Scene, box: Box) -> str:
    """Return ``box`` (pixels) in the notation that the shipped language model reads and writes."""
    return format_boxes([box], style=BOX_STYLE, width=scene.width, height=scene.height)


def _phrase(item: WorldObject, order: list[str]) -> str:
    """Write "large red striped circle with a dot"."""
    return noun_phrase(filters_of(item, ATTRIBUTES))


def _listing(item: WorldObject, order: list[str]) -> str:
    """Write "red, circle, large, dot, striped" in the order given."""
    return ", ".join(_word(item, name) for name in order)


def _fields(item: WorldObject, order: list[str]) -> str:
    """Write "color red, mark dot, ..." in the order given."""
    return ", ".join(f"{name} {getattr(item, name)}" for name in order)


def _word(item: WorldObject, name: str) -> str:
    value = str(getattr(item, name))
    return "no mark" if (name, value) == ("mark", "none") else value
