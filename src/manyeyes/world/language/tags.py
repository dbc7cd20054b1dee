"""The world's tags: single words that are true of a picture, as a tagger names them.

Taggers of RAM's type learn tags that were parsed out of captions. So the world's tags are the words
of its captions: colours, shapes, sizes, and how many objects there are in all; never texture, mark
or place. Like all tags they name parts and do not say what belongs together.
"""

from __future__ import annotations

from manyeyes.world.language.words import NUMBER_WORDS
from manyeyes.world.sample import MAX_OBJECTS
from manyeyes.world.scene import COLORS, SHAPES, SIZES, Scene

TAGS: tuple[str, ...] = (*COLORS, *SHAPES, *SIZES, *NUMBER_WORDS[1 : MAX_OBJECTS + 1])
"""Every tag, in the tagger's order."""


def tags_of(scene: Scene) -> tuple[str, ...]:
    """Return the tags that are true of ``scene``, in the order of ``TAGS``."""
    true: set[str] = {
        word for item in scene.objects for word in (item.color, item.shape, item.size)
    }
    if 0 < len(scene.objects) <= MAX_OBJECTS:
        true.add(NUMBER_WORDS[len(scene.objects)])
    return tuple(tag for tag in TAGS if tag in true)
