"""Referring expressions, one per row, in two layouts:

    {id, image, image_id, expression, bbox: [x, y, width, height]}      COCO's boxes
    {img_path, expression, bbox: [x1, y1, x2, y2]}                      Shikra's REC files

JSON lines or a list; ``sent_id``, ``ref_id``, ``ann_id``, ``width`` and ``height`` (of the image)
are optional. One sample per expression. ``meta`` holds ``expression``, ``box`` (pixel corners),
``image_id``, ``ref_id``, ``ann_id`` and ``size`` (width, height).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, corner_box, image_path, size_box
from manyeyes.data.readers.coco import check_size, written_size
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.prompts import REC_PROMPT, ask, box_answer
from manyeyes.records import Sample

_IDS = ("image_id", "ref_id", "ann_id")


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``expression`` and ``bbox``."""
    return "expression" in record and "bbox" in record


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    shikra = "img_path" in row.value
    key = "img_path" if shikra else "image"
    path = image_path(row, key, row.get(key, "the path of an image file"), options)
    expression = row.text("expression").strip()
    box = corner_box(row, "bbox", row.get("bbox", "a box")) if shikra else size_box(row, "bbox")
    meta: dict[str, Any] = {"expression": expression, "box": box}
    meta.update((key, row.identity(key)) for key in _IDS if key in row.value)
    if (size := written_size(row)) is not None:
        meta["size"] = size
        if options.check_images:
            check_size(path, size, **row.place, key="width")
    turns = (ask(REC_PROMPT.format(expression=expression)), box_answer(box))
    identity = str(row.identity("sent_id")) if "sent_id" in row.value else row.default_id()
    return Sample(identity, (path,), turns, "rec", meta)


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
