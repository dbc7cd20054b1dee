"""Complete descriptions of a scene as text: what a language model reads in place of an image.

Only the text-only pretraining of the shipped language model uses them; no image is ever paired with
one. Objects come in random order, each with all attributes and its box.
"""

from __future__ import annotations

from random import Random

from manyeyes.boxes import format_boxes
from manyeyes.world.language.phrases import filters_of, noun_phrase
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.scene import Scene, WorldObject

BOX_STYLE = "shikra"


def description(scene: Scene, rng: Random) -> str:
    """Return a description of every object of ``scene``, in one of three layouts."""
    items = rng.sample(scene.objects, len(scene.objects))
    layout = rng.choice((_phrase, _listing, _fields))
    order = rng.sample(list(ATTRIBUTES), len(ATTRIBUTES))
    parts = [layout(item, box_text(scene, item), order) for item in items]
    return "; ".join(parts)


def box_text(scene: Scene, item: WorldObject) -> str:
    """Return an object's box in the notation that the shipped language model reads and writes."""
    return format_boxes([item.box], style=BOX_STYLE, width=scene.width, height=scene.height)


def _phrase(item: WorldObject, box: str, order: list[str]) -> str:
    """Write "large red striped circle with a dot at [...]"."""
    return f"{noun_phrase(filters_of(item, ATTRIBUTES))} at {box}"


def _listing(item: WorldObject, box: str, order: list[str]) -> str:
    """Write "red, circle, large, dot, striped, [...]" in the order given."""
    words = [_word(item, name) for name in order]
    return ", ".join([*words, box])


def _fields(item: WorldObject, box: str, order: list[str]) -> str:
    """Write "[...] color red, mark dot, ..." in the order given."""
    words = [f"{name} {getattr(item, name)}" for name in order]
    return f"{box} " + ", ".join(words)


def _word(item: WorldObject, name: str) -> str:
    value = str(getattr(item, name))
    return "no mark" if (name, value) == ("mark", "none") else value
