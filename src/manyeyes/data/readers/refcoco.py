"""Referring expressions: ``{id, image, image_id, expression, bbox: [x, y, width, height]}``.

JSON lines or a list; ``ref_id`` and ``ann_id`` are optional. One sample per expression. ``meta``
holds ``expression``, ``box`` (pixel corners), ``image_id``, ``ref_id`` and ``ann_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.documents import Document
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.prompts import REC_PROMPT, ask, box_answer
from manyeyes.data.rows import Row, SourceOptions, image_path, size_box
from manyeyes.records import Sample

_IDS = ("image_id", "ref_id", "ann_id")


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``expression`` and ``bbox``."""
    return "expression" in record and "bbox" in record


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    path = image_path(row, "image", row.get("image", "the path of an image file"), options)
    expression = row.text("expression").strip()
    box = size_box(row, "bbox")
    meta: dict[str, Any] = {"expression": expression, "box": box}
    meta.update((key, row.identity(key)) for key in _IDS if key in row.value)
    turns = (ask(REC_PROMPT.format(expression=expression)), box_answer(box))
    return Sample(row.default_id(), (path,), turns, "rec", meta)


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
