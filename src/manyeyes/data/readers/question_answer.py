"""Questions with short answers: ``{image, question, answer}``, one per row.

The layout of most parquet files of question answering, and of LION's own records, which also have
``category`` (the task type) and ``tags`` (a list, or one text with commas). ``answer`` is a text, a
number or a list of accepted answers (also as ``answers``), of which the most frequent is trained
on. ``image`` may be a list; it, ``question_id`` (or ``id``), ``category`` and ``tags`` may be
absent. ``meta`` holds ``question``, ``answer`` and, where there are several, ``answers``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, is_finite, show
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.conversation import image_list
from manyeyes.data.readers.prompts import say
from manyeyes.records import IMAGE_PLACEHOLDER, Sample, Tags, Turn


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``question`` and texts or a number as ``answer`` or ``answers``."""
    answer = record.get("answer", record.get("answers"))
    listed = isinstance(answer, list) and all(isinstance(one, str) for one in answer)
    answered = isinstance(answer, str | int | float) or (listed and bool(answer))
    return "question" in record and answered and not any(key in record for key in _OTHERS)


_OTHERS = ("messages", "conversations", "file_path", "img_path", "region_id")
"""Keys that mark other formats."""


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    images = image_list(row, options)
    question, answers = row.text("question").strip(), _answers(row)
    answer = Counter(answers).most_common(1)[0][0]
    identity = str(row.identity("question_id")) if "question_id" in row.value else row.default_id()
    meta: dict[str, Any] = {"question": question, "answer": answer}
    meta |= {"answers": answers} if len(answers) > 1 else {}
    task = row.text("category") if "category" in row.value else "vqa"
    lead = f"{IMAGE_PLACEHOLDER}\n" * len(images)
    turns = (Turn("user", lead + question), say(answer))
    return Sample(identity, images, turns, task, meta, tags=_tags(row))


def _answers(row: Row) -> tuple[str, ...]:
    """All accepted answers, at least one."""
    key = "answer" if "answer" in row.value else "answers"
    value = row.get(key, "a text, a number or a list of texts")
    texts = [
        str(one).strip()
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str) or is_finite(one)
    ]
    if not texts or not all(texts) or (isinstance(value, list) and len(texts) < len(value)):
        raise row.error(key, f"expected a text, a number or a list of texts, got {show(value)}")
    return tuple(texts)


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
