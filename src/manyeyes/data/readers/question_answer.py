"""Questions with one short answer: ``{image, question, answer}``, one per row.

The layout of most parquet files of question answering, and of LION's own records, which also have
``category`` (the task type) and ``tags`` (a list, or one text with commas). ``question_id`` (or
``id``), ``category`` and ``tags`` are optional. ``meta`` holds ``question`` and ``answer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, show
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.prompts import ask, say
from manyeyes.records import Sample, Tags


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``image``, ``question`` and a text as ``answer``."""
    return "image" in record and "question" in record and isinstance(record.get("answer"), str)


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    path = image_path(row, "image", row.get("image", "the path of an image file"), options)
    question, answer = row.text("question").strip(), row.text("answer").strip()
    identity = str(row.identity("question_id")) if "question_id" in row.value else row.default_id()
    meta = {"question": question, "answer": answer}
    task = row.text("category") if "category" in row.value else "vqa"
    turns = (ask(question), say(answer))
    return Sample(identity, (path,), turns, task, meta, tags=_tags(row))


def _tags(row: Row) -> Tags | None:
    """The tags of the row's image, if it has the key; an empty text or list says that none fit."""
    value = row.value.get("tags")
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise row.error("tags", f"expected a list of texts, or one text, got {show(value)}")
    return (tuple(name.strip() for name in names if name.strip()),)


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
