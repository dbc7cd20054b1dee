"""GQA: ``{split}_{balanced,all}_questions.json``, an object ``{id: {question, imageId, answer}}``.

One sample per question, with the short answer, or the whole sentence under ``fullAnswer`` with
``options.full_answer``. Images are ``{imageId}.jpg``, or named by ``options.image_name`` (with
``{image_id}``), or by an ``image`` key of the question, which the official files do not have.
``meta`` holds ``question_id``, ``image_id``, ``question``, ``answer`` and GQA's ``types``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, named_image, show
from manyeyes.data.readers.contract import Outcome, attempt
from manyeyes.data.readers.prompts import ask, say
from manyeyes.errors import DataError
from manyeyes.records import Sample, Turn

_OFFICIAL_NAME = "{image_id}.jpg"


def matches(content: Mapping[str, Any]) -> bool:
    """An object of objects with ``question`` and ``imageId``."""
    values = islice(content.values(), 20)
    return any(isinstance(v, dict) and "question" in v and "imageId" in v for v in values)


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one question; its id is the first part of the row's prefix."""
    number = row.prefix.removesuffix(".")
    question = row.text("question").strip()
    image = str(row.identity("imageId"))
    meta: dict[str, Any] = {"question_id": number, "image_id": image, "question": question}
    if isinstance(row.value.get("types"), dict):
        meta["types"] = row.value["types"]
    turns: tuple[Turn, ...] = (ask(question),)
    if "answer" in row.value or options.require_answers:
        meta["answer"] = row.text("answer").strip()
        said = row.text("fullAnswer").strip() if options.full_answer else meta["answer"]
        turns = (*turns, say(said))
    name = row.value.get("image")
    if name is None:
        pattern = options.image_name or _OFFICIAL_NAME
        name = named_image(row, "imageId", pattern, image_id=image)
    return Sample(number, (image_path(row, "imageId", name, options),), turns, "vqa", meta)


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per question."""
    for number, (key, value) in enumerate(document.content.items(), start=1):
        if isinstance(value, dict):
            yield attempt(parse_row, Row(document.path, number, value, f"{key}."), options)
        else:
            message = f"expected an object, got {show(value)}"
            yield DataError(message, file=document.path, entry=number, key=key)
