"""Questions with one short answer: ``{image, question, answer}``, one per row.

The layout of most parquet files of question answering. ``question_id`` (or ``id``) is optional.
``meta`` holds ``question`` and ``answer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.documents import Document
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.prompts import ask, say
from manyeyes.data.rows import Row, SourceOptions, image_path
from manyeyes.records import Sample


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``image``, ``question`` and a text as ``answer``."""
    return "image" in record and "question" in record and isinstance(record.get("answer"), str)


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    path = image_path(row, "image", row.get("image", "the path of an image file"), options)
    question, answer = row.text("question").strip(), row.text("answer").strip()
    identity = str(row.identity("question_id")) if "question_id" in row.value else row.default_id()
    meta = {"question": question, "answer": answer}
    return Sample(identity, (path,), (ask(question), say(answer)), "vqa", meta)


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
