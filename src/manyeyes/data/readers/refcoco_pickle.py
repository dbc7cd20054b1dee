"""RefCOCO as published: ``refs(unc).p``, ``refs(umd).p`` or ``refs(google).p`` and instances.json.

The pickle is a list of ``{ref_id, ann_id, image_id, split, sentences: [{sent_id, sent}]}``; boxes
and image files come from ``instances.json`` beside it, or ``options.annotations``. One sample per
sentence, as in ``refcoco``; ``options.split`` keeps one split. The ``file_name`` of the pickle is
not used: it carries a suffix that image files do not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.data.containers.documents import Document, open_document
from manyeyes.data.containers.rows import Row, SourceOptions, size_box
from manyeyes.data.readers.coco import CocoImage, check_size, coco_images, entries, image_of
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import REC_PROMPT, ask, box_answer
from manyeyes.errors import DataError
from manyeyes.records import Box, Sample


@dataclass(frozen=True)
class Instances:
    """What the pickle refers to: images and annotated boxes by id."""

    images: dict[str | int, CocoImage]
    boxes: dict[str | int, Box]


def matches(content: Mapping[str, Any]) -> bool:
    """An object with ``refs``, which is how a pickle is opened."""
    return "refs" in content


def parse_row(row: Row, instances: Instances) -> list[Sample]:
    """Validate one reference and return a sample for each sentence; raises ``DataError``."""
    image = image_of(row, instances.images)
    annotation = row.identity("ann_id")
    if annotation not in instances.boxes:
        message = f"expected the id of an annotation with a box, got {annotation!r}"
        raise row.error("ann_id", message)
    box = instances.boxes[annotation]
    ids: dict[str, Any] = {"image_id": image.id, "ref_id": row.identity("ref_id")}
    ids |= {"ann_id": annotation} | ({} if image.size is None else {"size": image.size})
    samples = []
    for index, value in enumerate(row.items("sentences", "a list of {sent_id, sent}")):
        sentence = row.child("sentences", index, value)
        expression = sentence.text("sent").strip()
        meta = {"expression": expression, "box": box, "split": row.value.get("split"), **ids}
        turns = (ask(REC_PROMPT.format(expression=expression)), box_answer(box))
        identity = str(sentence.identity("sent_id"))
        samples.append(Sample(identity, (image.path,), turns, "rec", meta))
    return samples


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per sentence; an error for a reference that cannot be resolved."""
    path = options.annotations or str(Path(document.path).parent / "instances.json")
    instances = _instances(open_document(path), options)
    found = 0
    for row in entries(document, "refs"):
        try:
            if isinstance(row, DataError):
                raise row
            if options.split is not None and row.value.get("split") != options.split:
                continue
            found += 1
            if options.check_images:
                image = image_of(row, instances.images)
                check_size(image.path, image.size, **row.place)
            yield from parse_row(row, instances)
        except DataError as error:
            yield error
    if not found:
        refs = (ref for ref in document.content["refs"] if isinstance(ref, dict))
        known = sorted({str(ref.get("split")) for ref in refs})
        message = f"holds nothing for split {options.split!r}; splits: {', '.join(known)}"
        raise DataError(message, file=document.path)


def _instances(document: Document, options: SourceOptions) -> Instances:
    """Usable images and boxes; unusable ones are missed only if a reference needs them."""
    images, _ = coco_images(document, options)
    boxes: dict[str | int, Box] = {}
    for row in entries(document, "annotations"):
        try:
            if isinstance(row, Row):
                boxes[row.identity("id")] = size_box(row, "bbox")
        except DataError:
            continue
    return Instances(images, boxes)
