"""Shikra JSON lines: boxes and points by number, ``<boxes>`` and ``<points>`` in the text.

    conversation   {image, target: {boxes, points}, conversations: [{from, value, boxes_seq,
                   points_seq}]}; a member of ``boxes_seq`` lists the boxes of one ``<boxes>``
    reasoning      {img_path, boxes, question, question_boxes_seq, cot_with_ans, answer_boxes_seq}
    sentences      {image_id, boxes, sentence, boxes_seq} of Flickr30k Entities
    PointQA        {file_path, question | general_question, answer, bbox, point}
    Visual7W       {file_path, question, candidates, answer, point}, ``answer`` a box

Boxes are [x1, y1, x2, y2] in pixels, points [x, y]. In raw sentences a phrase stands between
``<ph_st>`` and ``<ph_ed>``; its boxes follow it. PointQA and Visual7W rows become two samples, one
with the box and one with the point (Shikra's versions b and p). Rows with ``expression`` are read
by ``refcoco``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import (
    Row,
    SourceOptions,
    corner_box,
    image_path,
    one_of,
    pixel_point,
    show,
)
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.conversation import ROLES, Message, assemble, check_order
from manyeyes.data.readers.prompts import GROUNDED_CAPTION_PROMPT, ask, say
from manyeyes.errors import DataError
from manyeyes.records import (
    BOXES_PLACEHOLDER,
    IMAGE_PLACEHOLDER,
    POINTS_PLACEHOLDER,
    Box,
    Point,
    Sample,
)

_IMAGE_KEYS = ("image", "img_path", "file_path")
_PHRASE_START, _PHRASE_END = "<ph_st>", "<ph_ed>"


def matches(record: Mapping[str, Any]) -> bool:
    """A record in one of the layouts above."""
    if "conversations" in record:
        return isinstance(record.get("target"), dict)
    if "sentence" in record and "boxes_seq" in record:
        return True
    return ("file_path" in record and "point" in record) or (
        "img_path" in record and "question_boxes_seq" in record
    )


def parse_row(row: Row, options: SourceOptions) -> list[Sample]:
    """Validate one record and return its samples; raises ``DataError``."""
    if "conversations" in row.value:
        return [_conversation(row, options)]
    if "candidates" in row.value:
        return _pointing(row, options)
    if "point" in row.value:
        return _point_question(row, options)
    if "sentence" in row.value:
        return [_sentence(row, options)]
    return [_reasoning(row, options)]


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One or two samples, or an error, per record."""
    for row in document.records():
        if isinstance(row, DataError):
            yield row
            continue
        try:
            yield from parse_row(row, options)
        except DataError as error:
            yield error


def _conversation(row: Row, options: SourceOptions) -> Sample:
    target = row.get("target", "an object with boxes and points")
    if not isinstance(target, dict):
        raise row.error("target", f"expected an object with boxes and points, got {show(target)}")
    holder = row.within(target, "target.")
    known_boxes, known_points = _boxes(holder), _points(holder)
    messages, boxes, points = [], [], []
    for index, value in enumerate(row.items("conversations", "a list of {from, value}")):
        message = row.child("conversations", index, value)
        text = message.text("value")
        messages.append(Message(message, ROLES[one_of(message, "from", ROLES)], text))
        boxes += _groups(message, "boxes_seq", text, BOXES_PLACEHOLDER, known_boxes)
        points += _groups(message, "points_seq", text, POINTS_PLACEHOLDER, known_points)
    check_order(row, messages, "conversations", options)
    if not any(IMAGE_PLACEHOLDER in message.text for message in messages):
        first = messages[0]
        messages[0] = Message(first.row, first.role, f"{IMAGE_PLACEHOLDER}\n{first.text}")
    return assemble(row, messages, (_path(row, options),), boxes, points)


def _reasoning(row: Row, options: SourceOptions) -> Sample:
    known = _boxes(row)
    question, answer = _marked(row.text("question")), _marked(row.text("cot_with_ans"))
    asked = _groups(row, "question_boxes_seq", question, BOXES_PLACEHOLDER, known)
    said = _groups(row, "answer_boxes_seq", answer, BOXES_PLACEHOLDER, known)
    turns = (ask(question, tuple(asked)), say(answer, tuple(said)))
    return Sample(row.default_id(), (_path(row, options),), turns, "grounded_vqa")


def _sentence(row: Row, options: SourceOptions) -> Sample:
    text = _marked(row.text("sentence"))
    groups = _groups(row, "boxes_seq", text, BOXES_PLACEHOLDER, _boxes(row))
    name = f"{row.identity('image_id')}.jpg"
    path = image_path(row, "image_id", name, options)
    turns = (ask(GROUNDED_CAPTION_PROMPT), say(text, tuple(groups)))
    return Sample(row.default_id(), (path,), turns, "grounded_caption")


def _point_question(row: Row, options: SourceOptions) -> list[Sample]:
    key = "question" if "question" in row.value else "general_question"
    question, answer = row.text(key).strip(), row.text("answer").strip()
    box = corner_box(row, "bbox", row.get("bbox", "[x1, y1, x2, y2]"))
    point = pixel_point(row, "point", row.get("point", "[x, y]"))
    path, identity = _path(row, options), row.default_id()
    meta = {"question": question, "answer": answer, "box": box, "point": point}
    by_box = (ask(f"{question} {BOXES_PLACEHOLDER}", ((box,),)), say(answer))
    by_point = (ask(f"{question} {POINTS_PLACEHOLDER}", points=((point,),)), say(answer))
    return [
        Sample(f"{identity}-box", (path,), by_box, "pointqa", meta),
        Sample(f"{identity}-point", (path,), by_point, "pointqa", meta),
    ]


def _pointing(row: Row, options: SourceOptions) -> list[Sample]:
    candidates = tuple(
        (corner_box(row, f"candidates[{index}]", value),)
        for index, value in enumerate(row.items("candidates", "a list of boxes"))
    )
    box = corner_box(row, "answer", row.get("answer", "[x1, y1, x2, y2]"))
    if (box,) not in candidates:
        raise row.error("answer", f"expected one of the candidates, got {show(box)}")
    point = pixel_point(row, "point", row.get("point", "[x, y]"))
    question, path = row.text("question").strip(), _path(row, options)
    listed = f"{question} Candidates: {' '.join([BOXES_PLACEHOLDER] * len(candidates))}"
    meta = {"question": question, "box": box, "point": point}
    by_box = (ask(f"{listed} Answer with a box.", candidates), say(BOXES_PLACEHOLDER, ((box,),)))
    by_point = (
        ask(f"{listed} Answer with a point.", candidates),
        say(POINTS_PLACEHOLDER, points=((point,),)),
    )
    identity = row.default_id()
    return [
        Sample(f"{identity}-box", (path,), by_box, "visual7w", meta),
        Sample(f"{identity}-point", (path,), by_point, "visual7w", meta),
    ]


def _path(row: Row, options: SourceOptions) -> str:
    key = next((key for key in _IMAGE_KEYS if key in row.value), _IMAGE_KEYS[0])
    return image_path(row, key, row.get(key, "the path of an image file"), options)


def _marked(text: str) -> str:
    """A raw sentence with ``<boxes>`` where a phrase ends."""
    return " ".join(
        text.replace(_PHRASE_START, "").replace(_PHRASE_END, f" {BOXES_PLACEHOLDER} ").split()
    )


def _boxes(row: Row) -> list[Box]:
    if row.value.get("boxes") is None:
        return []
    values = row.items("boxes", "a list of boxes")
    return [corner_box(row, f"boxes[{index}]", value) for index, value in enumerate(values)]


def _points(row: Row) -> list[Point]:
    if row.value.get("points") is None:
        return []
    values = row.items("points", "a list of points")
    return [pixel_point(row, f"points[{index}]", value) for index, value in enumerate(values)]


def _groups(row: Row, key: str, text: str, placeholder: str, known: Sequence[Any]) -> list[Any]:
    """The members of one sequence, looked up; one per placeholder of the text."""
    sequence = [] if row.value.get(key) is None else row.items(key, "a list of lists of numbers")
    if len(sequence) != text.count(placeholder):
        found = f"{text.count(placeholder)} in the text, {len(sequence)} here"
        raise row.error(key, f"expected one member per {placeholder}, got {found}")
    groups = []
    for index, numbers in enumerate(sequence):
        if not isinstance(numbers, list) or not numbers:
            message = f"expected a list of numbers, not empty, got {show(numbers)}"
            raise row.error(f"{key}[{index}]", message)
        for number in numbers:
            whole = isinstance(number, int) and not isinstance(number, bool)
            if not whole or not 0 <= number < len(known):
                message = f"expected the number of one of {len(known)} targets, got {show(number)}"
                raise row.error(f"{key}[{index}]", message)
        groups.append(tuple(known[number] for number in numbers))
    return groups
