"""VQA pairs: ``..._questions.json`` with ``..._annotations.json`` beside it (VQAv2, OK-VQA).

The questions' file is the one that is read; the annotations' file is ``options.annotations`` or
found by name. Images come from the question's own ``image`` key if it has one, else from
``options.image_name``, else from the official pattern ``COCO_{data_subtype}_{image_id:012d}.jpg``.

One sample per question, answered with ``multiple_choice_answer``, or where there is none (OK-VQA)
with the most frequent answer. ``meta`` holds ``question_id``, ``image_id``, ``question``,
``answers`` (all of them), ``raw_answers`` if there are any, ``question_type`` and ``answer_type``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manyeyes.data.containers.documents import Document, open_document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, named_image, show
from manyeyes.data.readers.coco import entries
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import ask, say
from manyeyes.errors import DataError
from manyeyes.records import Sample, Turn

_OFFICIAL_NAME = "COCO_{subtype}_{image_id:012d}.jpg"


def matches(content: Mapping[str, Any]) -> bool:
    """An object with a list of questions about numbered images, or the annotations of one."""
    questions = content.get("questions")
    if isinstance(questions, list):
        return any(isinstance(entry, dict) and "image_id" in entry for entry in questions[:20])
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        return False
    return any(isinstance(entry, dict) and "answers" in entry for entry in annotations[:20])


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """The errors of the annotations, then one outcome per question."""
    if "questions" not in document.content:
        message = "holds answers; give the file of questions and this one as its annotations"
        raise DataError(message, file=document.path)
    answers: dict[str | int, Row] = {}
    broken: set[str | int] = set()
    path = _annotations_path(document.path, options)
    if path is not None:
        for found in _annotations(path):
            if isinstance(found, DataError):
                yield found
                continue
            identity, annotation, error = found
            if error is None and identity in answers:
                error = annotation.error("question_id", f"{identity!r} is there twice")
                del answers[identity]
            if error is None and identity not in broken:
                answers[identity] = annotation
            elif error is not None:
                broken.add(identity)
                yield error
    subtype = document.content.get("data_subtype")
    for row in entries(document, "questions"):
        try:
            if isinstance(row, DataError):
                raise row
            if row.identity("question_id") in broken:
                continue  # already reported through its annotation
            yield parse_row(row, answers, subtype, options)
        except DataError as error:
            yield error


def parse_row(
    row: Row, answers: Mapping[str | int, Row], subtype: Any, options: SourceOptions
) -> Sample:
    """Validate one question against its annotation; raises ``DataError``."""
    identity = row.identity("question_id")
    question = row.text("question").strip()
    meta: dict[str, Any] = {
        "question_id": identity,
        "image_id": row.identity("image_id"),
        "question": question,
    }
    turns: tuple[Turn, ...] = (ask(question),)
    if identity in answers:
        found = answers[identity]
        given = found.value["answers"]
        meta["answers"] = tuple([answer["answer"] for answer in given])
        for key in ("question_type", "answer_type"):
            if found.value.get(key) is not None:
                meta[key] = found.text(key)
        if all(isinstance(answer.get("raw_answer"), str) for answer in given):
            meta["raw_answers"] = tuple([answer["raw_answer"] for answer in given])
        turns = (*turns, say(_best_answer(found, meta["answers"])))
    elif options.require_answers:
        raise row.error("question_id", f"expected an annotation for question {identity!r}")
    name = _image_name(row, subtype, options)
    return Sample(str(identity), (image_path(row, "image", name, options),), turns, "vqa", meta)


def _best_answer(annotation: Row, answers: tuple[str, ...]) -> str:
    """``multiple_choice_answer``; OK-VQA has none: then the most frequent answer, first if tied."""
    if "multiple_choice_answer" in annotation.value:
        return annotation.text("multiple_choice_answer").strip()
    return Counter(answers).most_common(1)[0][0].strip()


def _image_name(row: Row, subtype: Any, options: SourceOptions) -> str:
    """The image's file name, by the rules in the module's docstring."""
    if "image" in row.value:
        return row.text("image")
    identity = row.identity("image_id")
    if options.image_name is None and not isinstance(subtype, str):
        expected = "'image', the file's data_subtype, or an image_name pattern"
        raise row.error("image", f"is missing; expected {expected}")
    pattern = options.image_name or _OFFICIAL_NAME
    return named_image(row, "image_id", pattern, image_id=identity, subtype=subtype)


def _annotations_path(questions: str, options: SourceOptions) -> str | None:
    if options.annotations is not None:
        return options.annotations
    folder, name = os.path.split(questions)
    swapped = name.replace("questions", "annotations")
    candidates = (swapped, swapped.replace("OpenEnded_", "").replace("MultipleChoice_", ""))
    for candidate in candidates:
        path = Path(folder, candidate)
        if candidate != name and path.is_file():
            return str(path)
    if not options.require_answers:
        return None
    message = f"found no annotations beside it; expected {candidates[-1]!r}"
    raise DataError(message, file=questions)


def _annotations(path: str) -> Iterator[DataError | tuple[str | int, Row, DataError | None]]:
    """Id and row of every annotation, with the error of one that cannot be used."""
    document = open_document(path)
    if document.layout != "object":
        raise DataError("expected an object with 'annotations'", file=path)
    for row in entries(document, "annotations"):
        if isinstance(row, DataError):
            yield row
            continue
        try:
            identity = row.identity("question_id")
        except DataError as error:
            yield error
            continue
        try:
            _check_annotation(row)
            yield identity, row, None
        except DataError as error:
            yield identity, row, error


def _check_annotation(row: Row) -> None:
    if "multiple_choice_answer" in row.value:
        row.text("multiple_choice_answer")
    answers = row.items("answers", "a list of {answer}")
    if not answers:
        raise row.error("answers", "expected at least one answer, got an empty list")
    for index, value in enumerate(answers):
        if isinstance(value, dict) and isinstance(value.get("answer"), str):
            continue
        answer = row.child("answers", index, value)
        got = show(answer.get("answer", "a text"))
        raise answer.error("answer", f"expected a text, got {got}")
