"""Complete descriptions of a scene as text: what a language model reads in place of an image.

Only the text-only pretraining of the shipped language model uses them; no image is ever paired with
one. Objects come in random order, each with all attributes and its box.
"""

from __future__ import annotations

from random import Random

from manyeyes.conversation.boxes import format_boxes
from manyeyes.records import Box
from manyeyes.world.language.phrases import filters_of, noun_phrase
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.scene import Scene

BOX_STYLE = "shikra"


def description(scene: Scene, rng: Random, *, boxes: bool = True) -> str:
    """Return "large red striped circle with a dot [...]; small ..." for all objects of ``scene``.

    ``boxes`` adds each object's box; without them the text says nothing about places.
    """
    items = rng.sample(scene.objects, len(scene.objects))
    phrases = [noun_phrase(filters_of(item, ATTRIBUTES)) for item in items]
    if boxes:
        texts = (box_text(scene, item.box) for item in items)
        phrases = [f"{phrase} {text}" for phrase, text in zip(phrases, texts, strict=True)]
    return "; ".join(phrases)


def box_text(scene: Scene, box: Box) -> str:
    """Return ``box`` (pixels) in the notation that the shipped language model reads and writes."""
    return format_boxes([box], style=BOX_STYLE, width=scene.width, height=scene.height)
