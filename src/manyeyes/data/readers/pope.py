"""POPE: lines of ``{question_id, image, text, label: yes | no}``.

``meta`` holds ``question_id``, ``question``, ``label`` and ``image`` as written in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, one_of
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.prompts import ask, say
from manyeyes.records import Sample

_LABELS = ("yes", "no")


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``text`` and ``label``."""
    return "text" in record and "label" in record


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    identity = row.identity("question_id")
    path = image_path(row, "image", row.get("image", "the path of an image file"), options)
    question = row.text("text").strip()
    label = one_of(row, "label", _LABELS)
    meta = {
        "question_id": identity,
        "question": question,
        "label": label,
        "image": row.value["image"],
    }
    return Sample(str(identity), (path,), (ask(question), say(label)), "pope", meta)


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)
