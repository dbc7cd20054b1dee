"""Run a tagger over images: an explicit step before the prompt is written, never inside a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from PIL import Image

from manyeyes.encoders import FILE, TAGGERS, Tagger, TaggerSpec, parse_tagger
from manyeyes.errors import UsageError
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.pictures.pixels import to_pixels
from manyeyes.records import TagFeatures

BATCH = 16
"""Images that are tagged together."""

_PADDING = (0, 0, 0)
"""Never seen: taggers take the whole image, squashed."""


def load_tagger(spec: TaggerSpec) -> Tagger:
    """Return the tagger of a ``tagger:`` block, on the CPU.

    Raises:
        CheckpointError: its weights or lists are missing, damaged or another model's.
        UsageError: it is a file, which knows no other images.
    """
    if spec.family == FILE:
        raise UsageError(
            f"the tags file {spec.checkpoint!r} is no tagger: it knows its images only"
        )
    return TAGGERS[spec.family].load(spec)


def own_tagger(model: ManyEyesForConditionalGeneration) -> Tagger | None:
    """Return the tagger of a model that reads tags, on the model's device; None if it has none.

    Raises:
        CheckpointError: the tagger's weights or lists are missing or damaged.
    """
    spec = tagger_spec(model)
    return None if spec is None or spec.family == FILE else load_tagger(spec).to(model.device)


def tagger_spec(model: ManyEyesForConditionalGeneration) -> TaggerSpec | None:
    """Return the checked ``tagger`` block of a model that reads tags."""
    if model.config.tags == "none" or model.config.tagger is None:
        return None
    return parse_tagger(model.config.tagger)


def tag_images(
    tagger: Tagger, images: Iterator[Image.Image] | Sequence[Image.Image], batch: int = BATCH
) -> Iterator[TagFeatures]:
    """Yield the tags of RGB images, ``batch`` at a time, on the tagger's device."""
    waiting = iter(images)
    while chunk := list(islice(waiting, batch)):
        yield tagger(to_pixels(chunk, tagger.transform, "squash", _PADDING))
