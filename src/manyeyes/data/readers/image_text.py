"""Images with a caption: ``{image, caption}`` or ``{image, text}``, one per row.

The layout of image-text tars (a ``.jpg`` beside a ``.txt``) and of many parquet files. ``meta``
holds the caption under ``references``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.prompts import ask_caption, say
from manyeyes.records import Sample

_OTHERS = ("conversations", "label", "messages", "question", "question_id")


def matches(record: Mapping[str, Any]) -> bool:
    """A record with an image, a caption and no mark of another format."""
    if "image" not in record or any(key in record for key in _OTHERS):
        return False
    return "caption" in record or "text" in record


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    path = image_path(row, "image", row.get("image", "the path of an image file"), options)
    caption = " ".join(row.text("caption" if "caption" in row.value else "text").split())
    turns = (ask_caption(options), say(caption))
    return Sample(row.default_id(), (path,), turns, "caption", {"references": (caption,)})


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
