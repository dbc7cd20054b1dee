"""Run a tagger over images: an explicit step before the prompt is written, never inside a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from PIL import Image

from manyeyes.encoders import TAGGERS, Tagger, TaggerSpec
from manyeyes.pixels import to_pixels
from manyeyes.records import TagFeatures

BATCH = 16
"""Images that are tagged together."""

_PADDING = (0, 0, 0)
"""Never seen: taggers take the whole image, squashed."""


def load_tagger(spec: TaggerSpec) -> Tagger:
    """Return the tagger of a ``tagger:`` block, on the CPU.

    Raises:
        CheckpointError: its weights or lists are missing, damaged or another model's.
    """
    return TAGGERS[spec.family].load(spec)


def tag_images(
    tagger: Tagger, images: Iterator[Image.Image] | Sequence[Image.Image], batch: int = BATCH
) -> Iterator[TagFeatures]:
    """Yield the tags of RGB images, ``batch`` at a time, on the tagger's device."""
    waiting = iter(images)
    while chunk := list(islice(waiting, batch)):
        yield tagger(to_pixels(chunk, tagger.transform, "squash", _PADDING))
