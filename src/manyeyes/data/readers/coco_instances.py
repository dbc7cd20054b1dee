"""COCO instances: ``{images, categories, annotations: [{image_id, category_id, bbox}]}``.

One sample per image, also for images without objects. The answer names each category with its
boxes, ``cat <boxes>, dog <boxes>``, sorted by name; crowd regions are left out of it. ``meta``
holds ``image_id``, ``labels``, ``boxes`` (pixel corners) and ``crowd``, one entry per annotation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manyeyes.data.documents import Document
from manyeyes.data.readers.coco import CocoImage, coco_images, entries, image_of
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import DETECTION_PROMPT, NO_OBJECTS, ask, say
from manyeyes.data.rows import Row, SourceOptions, size_box
from manyeyes.errors import DataError
from manyeyes.records import BOXES_PLACEHOLDER, Box, Sample


@dataclass(frozen=True)
class Instance:
    """One annotated object."""

    image: CocoImage
    label: str
    box: Box
    crowd: bool


def matches(content: Mapping[str, Any]) -> bool:
    """An object with images and categories, or whose annotations carry boxes."""
    annotations = content.get("annotations")
    if not isinstance(annotations, list) or "images" not in content:
        return False
    if any(isinstance(entry, dict) and "caption" in entry for entry in annotations[:20]):
        return False
    return "categories" in content


def parse_row(
    row: Row, images: dict[str | int, CocoImage], names: Mapping[str | int, str]
) -> Instance:
    """Validate one annotation; raises ``DataError``."""
    image = image_of(row, images)
    category = row.identity("category_id")
    if category not in names:
        message = f"expected the id of one of 'categories', got {category!r}"
        raise row.error("category_id", message)
    return Instance(image, names[category], size_box(row, "bbox"), bool(row.value.get("iscrowd")))


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """The errors of images, categories and annotations, then one sample per image.

    An image with a broken annotation gives no sample: its answer would be incomplete.
    """
    images, errors = coco_images(document, options)
    yield from errors
    names: dict[str | int, str] = {}
    for row in entries(document, "categories"):
        try:
            if isinstance(row, DataError):
                raise row
            names[row.identity("id")] = row.text("name")
        except DataError as error:
            yield error
    found: dict[str | int, list[Instance]] = {identity: [] for identity in images}
    for row in entries(document, "annotations"):
        try:
            if isinstance(row, DataError):
                raise row
            instance = parse_row(row, images, names)
            found.get(instance.image.id, []).append(instance)
        except DataError as error:
            identity = row.value.get("image_id") if isinstance(row, Row) else None
            if isinstance(identity, str | int):
                found.pop(identity, None)
            yield error
    for image_id, instances in found.items():
        yield _sample(images[image_id], instances)


def _sample(image: CocoImage, instances: list[Instance]) -> Sample:
    boxes: dict[str, list[Box]] = {}
    for instance in instances:
        if not instance.crowd:
            boxes.setdefault(instance.label, []).append(instance.box)
    labels = sorted(boxes)
    answer = ", ".join(f"{label} {BOXES_PLACEHOLDER}" for label in labels) or NO_OBJECTS
    meta = {
        "image_id": image.id,
        "labels": tuple(instance.label for instance in instances),
        "boxes": tuple(instance.box for instance in instances),
        "crowd": tuple(instance.crowd for instance in instances),
    }
    groups = tuple(tuple(boxes[label]) for label in labels)
    turns = (ask(DETECTION_PROMPT), say(answer, groups))
    return Sample(str(image.id), (image.path,), turns, "detection", meta)
