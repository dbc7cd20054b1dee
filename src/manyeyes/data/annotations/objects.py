"""Objects of images beside the data: a detector's findings or annotations, looked up by image.

The file has COCO's layout, ``{images, categories, annotations}``; with a ``score`` in 0..1 an
annotation is a detection. So ground truth can stand in for a detector, and a detector's file can be
scored against it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyeyes.data.annotations.per_image import shuffled
from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import MAX_LISTED, FileReport
from manyeyes.data.readers.coco import CocoObjects, read_instances
from manyeyes.errors import DataError
from manyeyes.files import write_text
from manyeyes.records import Detection, Detections, Sample, Use


class ObjectTable(dict[str, Detections]):
    """Image path -> its objects; ``file`` names where they come from, for messages."""

    def __init__(self, entries: Mapping[str, Detections], file: str) -> None:
        super().__init__(entries)
        self.file = file

    def __missing__(self, path: str) -> Detections:
        if os.path.normpath(path) in self:
            return self[os.path.normpath(path)]
        raise DataError(
            f"holds no objects of image {path!r}; look at it with `manyeyes detect --out`",
            file=self.file,
        )

    def used_as(self, use: Use, seed: int) -> ObjectTable:
        """Return the table with every image's own objects, another image's, or none.

        Raises:
            UsageError: shuffling the objects of less than two images.
        """
        if use == "empty":
            return ObjectTable(dict.fromkeys(self, ()), self.file)
        return (
            ObjectTable(shuffled(self, seed, self.file), self.file) if use == "shuffled" else self
        )


def read_object_table(path: str | Path, image_root: str | Path) -> ObjectTable:
    """Read a file of objects; images are named relative to ``image_root``. Crowds are left out.

    Raises:
        DataError: the file or its first broken row, with file, place and key.
    """
    found = read_instances(open_document(path), SourceOptions(os.fspath(image_root)))
    errors = [*found.errors, *_repeated(found, str(path))]
    if errors:
        raise errors[0]
    return ObjectTable(
        {
            found.images[identity].path: tuple(
                Detection(o.label, o.box, o.score) for o in objects if not o.crowd
            )
            for identity, objects in found.by_image.items()
        },
        str(path),
    )


def check_object_file(path: str | Path, image_root: str | Path) -> FileReport:
    """Go through a file of objects; its images are the samples that are counted."""
    try:
        found = read_instances(open_document(path), SourceOptions(os.fspath(image_root)))
    except DataError as error:
        return FileReport(str(path), "objects", 0, 1, (error,))
    errors = (*found.errors, *_repeated(found, str(path)))
    count = len(found.by_image)
    return FileReport(str(path), "objects", count, len(errors), errors[:MAX_LISTED])


def _repeated(found: CocoObjects, file: str) -> list[DataError]:
    """Images that stand in the file under two ids: whose objects are theirs is not clear."""
    seen: set[str] = set()
    errors = []
    for image in found.images.values():
        if image.path in seen:
            message, key = f"{image.path!r} is there twice", f"images[{image.number - 1}].file_name"
            errors.append(DataError(message, file=file, entry=image.number, key=key))
        seen.add(image.path)
    return errors


def with_objects(samples: Iterable[Sample], table: ObjectTable) -> list[Sample]:
    """Return samples with the objects of their images.

    Raises:
        DataError: an image that the table does not have.
    """
    return [replace(s, objects=tuple(table[path] for path in s.images)) for s in samples]


@dataclass(frozen=True)
class ImageObjects:
    """One image of a file of objects; ``size`` is (width, height) in pixels."""

    file_name: str
    id: str | int
    size: tuple[int, int]
    objects: Detections


def coco_rows(image: ImageObjects, categories: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """Return an image's objects in COCO's results form, the class name beside its id.

    ``categories``: id by name.
    """
    rows = []
    for found in image.objects:
        x1, y1, x2, y2 = found.box
        box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
        score = {} if found.score is None else {"score": round(found.score, 6)}
        named = {"category_id": categories[found.label], "category": found.label}
        rows.append({"image_id": image.id, **named, "bbox": box, **score})
    return rows


def write_objects(
    path: Path, images: Sequence[ImageObjects], categories: Mapping[str, str | int]
) -> None:
    """Write a file of objects, whole or not at all; see the module.

    Raises:
        WriteError: it cannot be written.
    """
    content = {
        "images": [
            {"id": i.id, "file_name": i.file_name, "width": i.size[0], "height": i.size[1]}
            for i in images
        ],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [
            {"id": number, **row}
            for number, row in enumerate((r for i in images for r in coco_rows(i, categories)), 1)
        ],
    }
    write_text(path, json.dumps(content))
