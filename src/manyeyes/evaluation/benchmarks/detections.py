"""Annotated objects of COCO files and detections of every layout; shared by the detection tasks.

A detection is ``{image_id, category_id, bbox: [x, y, width, height], score}``; images without
detections are simply left out. A model that writes text answers ``cat [boxes], dog [boxes]``; as
text has no scores, boxes are ranked by their place in the answer (ours).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.data.containers.documents import Document, open_document
from manyeyes.data.containers.rows import Row, SourceOptions, show, size_box, strict
from manyeyes.data.readers.coco import coco_images, entries, image_of, is_crowd
from manyeyes.data.readers.prompts import NO_OBJECTS
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers
from manyeyes.evaluation.benchmarks.grounding import is_number, size_of
from manyeyes.evaluation.benchmarks.results import is_own, result_rows, row_text, unique_id
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.coco_boxes import BoxSize, FoundBox
from manyeyes.inference.questions import Item

RESULT_FORMAT = (
    '[{"image_id": ..., "category_id": ..., "bbox": [x, y, width, height], "score": ...}]'
)

_LABELLED = re.compile(r"([^\[\]]*)(\[[^\[\]]*\])")
_JOINTS = re.compile(r"^[\s,;.:]*(?:and\s+)?|[\s,;.:]+$")


@dataclass(frozen=True)
class Annotated:
    """An object as its file has it; ``category`` is an id as text, ``box`` [x, y, w, h]."""

    category: str
    box: BoxSize
    area: float
    crowd: bool
    corner_case: bool


def detection_items(document: Document, prompt: str) -> list[Item]:
    """One item per image, also for images without objects, in the order of the image ids.

    ``meta`` holds ``objects``, ``categories`` (id -> name, for all images alike) and ``order``.
    """
    images, errors = coco_images(document, SourceOptions("."))
    if errors:
        raise errors[0]
    names = _categories(document)
    objects: dict[str | int, list[Annotated]] = {identity: [] for identity in images}
    for row in strict(entries(document, "annotations")):
        objects[image_of(row, images).id].append(_annotated(row, names))
    ordered = sorted(images.values(), key=lambda i: (isinstance(i.id, str), i.id))
    return [
        Item(
            id=str(image.id),
            image=image.path,
            prompt=prompt,
            references=(),
            cluster=str(image.id),
            answer="detections",
            size=image.size,
            meta={"objects": tuple(objects[image.id]), "categories": names, "order": order},
            required=False,
        )
        for order, image in enumerate(ordered)
    ]


def load_detections(path: Path) -> dict[str, Prediction]:
    """Detections by image; also takes evaluate's rows, and files of ``manyeyes detect``.

    Raises:
        DataError: a missing key, a score or a number that is not finite, a negative size; with file
            and record.
    """
    texts: dict[str, Prediction] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in _detection_rows(path):
        if is_own(row):
            texts[unique_id(row, "id", texts)] = row_text(row, "prediction")
        else:
            found.setdefault(str(row.identity("image_id")), []).append(_detection(row))
    return {**texts, **found}


def _detection_rows(path: Path) -> Iterator[Row]:
    document = open_document(path)
    if document.layout == "object" and "annotations" in document.content:
        return strict(entries(document, "annotations"))
    return result_rows(path)


class DetectionReader:
    """Predictions to `FoundBox`; counts what cannot be read.

    ``unread``: texts without a readable box that do not say that there are none. ``texts``: texts
    read. ``unknown``: boxes under names that are no category.
    """

    def __init__(self, names: Mapping[str, str], box_style: str) -> None:
        self._ids = {identity: place for place, identity in enumerate(names)}
        self._names = {name.casefold(): place for place, name in enumerate(names.values())}
        self._box_style = box_style
        self.unread = self.texts = self.unknown = 0

    def read_all(self, answers: Answers, places: Sequence[int]) -> list[FoundBox]:
        """The detections of all items; ``places`` are the numbers of their images."""
        found = []
        for place, item, prediction in zip(places, answers.items, answers.predictions, strict=True):
            found += [
                FoundBox(place, category, box, score)
                for category, box, score in self._read(item, prediction)
            ]
        return found

    def _read(
        self, item: Item, prediction: Prediction | None
    ) -> Iterator[tuple[int, BoxSize, float]]:
        if isinstance(prediction, str):
            yield from self._read_text(item, prediction)
            return
        for number, value in enumerate(prediction or (), start=1):
            row = Row(f"detections of image {item.id!r}", number, _object(item, value))
            entry = _detection(row)
            if str(entry["category_id"]) not in self._ids:
                message = f"expected the id of one of 'categories', in {show(value)}"
                raise row.error("category_id", message)
            x, y, w, h = entry["bbox"]
            yield self._ids[str(entry["category_id"])], (x, y, w, h), entry["score"]

    def _read_text(self, item: Item, text: str) -> Iterator[tuple[int, BoxSize, float]]:
        self.texts += 1
        readable = text.strip().casefold().rstrip(".") == NO_OBJECTS
        width, height = size_of(item) if "[" in text else (1, 1)
        rank = 0
        for label, bracket in _LABELLED.findall(text):
            category = self._names.get(_JOINTS.sub("", label).casefold())
            groups = parse_boxes(bracket, style=self._box_style, width=width, height=height)
            boxes = [box for group in groups for box in group]
            readable = readable or bool(boxes)
            if category is None:
                self.unknown += len(boxes)
                continue
            for x1, y1, x2, y2 in boxes:
                rank += 1
                yield category, (x1, y1, x2 - x1, y2 - y1), 1 / rank
        self.unread += not readable


def _object(item: Item, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"expected a list of detections for image {item.id!r}, got {show(value)}")
    return value


def _detection(row: Row) -> dict[str, Any]:
    category = row.identity("category_id")
    score = row.get("score", "a number")
    if not is_number(score):
        raise row.error("score", f"expected a finite number, got {show(score)}")
    return {"category_id": category, "bbox": _box(row), "score": float(score)}


def _annotated(row: Row, names: Mapping[str, str]) -> Annotated:
    category = str(row.identity("category_id"))
    if category not in names:
        raise row.error("category_id", f"expected the id of one of 'categories', got {category!r}")
    x, y, w, h = _box(row)
    area = row.value.get("area", w * h)
    if not is_number(area) or area < 0:
        raise row.error("area", f"expected a number of pixels, got {show(area)}")
    corner = row.value.get("corner_case", False)
    if corner not in (0, 1):
        raise row.error("corner_case", f"expected true or false, got {show(corner)}")
    return Annotated(category, (x, y, w, h), float(area), is_crowd(row), bool(corner))


def _box(row: Row) -> list[float]:
    """[x, y, width, height] as written: sums of corners would lose digits."""
    size_box(row, "bbox")
    return [float(number) for number in row.value["bbox"]]


def _categories(document: Document) -> dict[str, str]:
    """Category id -> name, in the order of the ids; DataError for an id or a name given twice."""
    found: dict[str | int, str] = {}
    for row in strict(entries(document, "categories")):
        identity, name = row.identity("id"), row.text("name").strip()
        if identity in found or name in found.values():
            key = "id" if identity in found else "name"
            raise row.error(key, f"expected one of its own, got {show(row.value[key])} again")
        found[identity] = name
    return {str(i): found[i] for i in sorted(found, key=lambda i: (isinstance(i, str), i))}
