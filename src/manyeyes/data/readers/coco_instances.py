"""COCO instances: ``{images, categories, annotations: [{image_id, category_id, bbox}]}``.

One sample per image, also for images without objects. The answer names each category with its
boxes, ``cat <boxes>, dog <boxes>``, sorted by name; crowd regions are left out of it. ``meta``
holds ``image_id``, ``labels``, ``boxes`` (pixel corners) and ``crowd``, one entry per annotation,
and the image's ``size`` (width, height) where the file says it.
With the option ``refine`` the question asks to correct a detector's objects instead, and the answer
is the true list in the form that perception text has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.readers.coco import CocoImage, Instance, read_instances
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import DETECTION_PROMPT, NO_OBJECTS, ask, say
from manyeyes.perception.text import NO_OBJECT, REFINE_PROMPT, largest_first, written_name
from manyeyes.records import BOXES_PLACEHOLDER, Box, Detection, Sample


def matches(content: Mapping[str, Any]) -> bool:
    """An object with images and categories, or whose annotations carry boxes."""
    annotations = content.get("annotations")
    if not isinstance(annotations, list) or "images" not in content:
        return False
    if any(isinstance(entry, dict) and "caption" in entry for entry in annotations[:20]):
        return False
    return "categories" in content


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """The errors of images, categories and annotations, then one sample per image.

    An image with a broken annotation gives no sample: its answer would be incomplete.
    """
    found = read_instances(document, options)
    yield from found.errors
    for image_id, instances in found.by_image.items():
        make = _refinement if options.refine else _sample
        yield make(found.images[image_id], instances)


def _meta(image: CocoImage, instances: list[Instance]) -> dict[str, Any]:
    return {
        "image_id": image.id,
        "labels": tuple(instance.label for instance in instances),
        "boxes": tuple(instance.box for instance in instances),
        "crowd": tuple(instance.crowd for instance in instances),
        **({} if image.size is None else {"size": image.size}),
    }


def _sample(image: CocoImage, instances: list[Instance]) -> Sample:
    boxes: dict[str, list[Box]] = {}
    for instance in instances:
        if not instance.crowd:
            boxes.setdefault(instance.label, []).append(instance.box)
    labels = sorted(boxes)
    answer = ", ".join(f"{label} {BOXES_PLACEHOLDER}" for label in labels) or NO_OBJECTS
    groups = tuple(tuple(boxes[label]) for label in labels)
    turns = (ask(DETECTION_PROMPT), say(answer, groups))
    return Sample(str(image.id), (image.path,), turns, "detection", _meta(image, instances))


def _refinement(image: CocoImage, instances: list[Instance]) -> Sample:
    """Ask to correct what a detector found; the answer is the truth, largest object first."""
    truth = largest_first([Detection(i.label, i.box) for i in instances if not i.crowd])
    items = [f"{written_name(found.label)} {BOXES_PLACEHOLDER}" for found in truth]
    turns = (
        ask(REFINE_PROMPT),
        say("; ".join(items) or NO_OBJECT, tuple((found.box,) for found in truth)),
    )
    return Sample(f"{image.id}-refine", (image.path,), turns, "refinement", _meta(image, instances))
