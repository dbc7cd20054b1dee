"""Shared by the conversation formats: roles, order of turns, image and box placeholders.

Keys beyond the published formats, all optional, on the row: ``boxes`` (one group of pixel boxes
``[[x1, y1, x2, y2], ...]`` per ``<boxes>`` of the conversation, in order), ``points`` (groups of
``[[x, y], ...]`` per ``<points>``), ``box_image`` (index of the image they lie in, 0 by default)
and ``task`` (a name for reports).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

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
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.records import (
    BOXES_PLACEHOLDER,
    IMAGE_PLACEHOLDER,
    POINTS_PLACEHOLDER,
    Box,
    Point,
    Role,
    Sample,
    Turn,
)

T = TypeVar("T")

ROLES: Mapping[str, Role] = {
    "assistant": "assistant",
    "gpt": "assistant",
    "human": "user",
    "system": "system",
    "user": "user",
}
"""Written role names, of LLaVA and ShareGPT and of OpenAI, to ours."""


@dataclass(frozen=True)
class Message:
    """One message before placeholders are counted; ``row`` says where it stands."""

    row: Row
    role: Role
    text: str


def from_value_messages(row: Row) -> list[Message]:
    """Messages of the ``conversations: [{from, value}]`` layout, with ``system`` of the row."""
    messages = []
    if row.value.get("system"):
        messages.append(Message(row, "system", row.text("system")))
    expected = "a list of {from, value}"
    for index, value in enumerate(row.items("conversations", expected)):
        message = row.child("conversations", index, value)
        role = ROLES[one_of(message, "from", ROLES)]
        messages.append(Message(message, role, message.text("value")))
    return messages


def read_value_rows(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record of the ``conversations: [{from, value}]`` layout."""
    return convert_rows(document, options, _value_row)


def _value_row(row: Row, options: SourceOptions) -> Sample:
    messages = from_value_messages(row)
    check_order(row, messages, "conversations", options)
    return build_sample(row, messages, image_list(row, options))


def image_list(row: Row, options: SourceOptions) -> tuple[str, ...]:
    """Paths under ``image`` (one or a list) or ``images`` (a list); without both: text only."""
    names = row.value.get("image")
    if names is not None and row.value.get("images") is not None:
        raise row.error("images", "expected either 'image' or 'images', got both")
    if isinstance(names, str):
        return (image_path(row, "image", names, options),)
    key = "images" if names is None else "image"
    if row.value.get(key) is None:
        return ()
    entries = row.items(key, "a list of image paths")
    return tuple(
        image_path(row, f"{key}[{index}]", _path_of(entry), options)
        for index, entry in enumerate(entries)
    )


def build_sample(row: Row, messages: Sequence[Message], images: tuple[str, ...]) -> Sample:
    """Check placeholders against images, boxes and points of the row and make the sample."""
    boxes = _groups(row, "boxes", "[[[x1, y1, x2, y2], ...], ...]", corner_box, images)
    points = _groups(row, "points", "[[[x, y], ...], ...]", pixel_point, images)
    return assemble(row, messages, images, boxes, points)


def assemble(
    row: Row,
    messages: Sequence[Message],
    images: tuple[str, ...],
    boxes: Sequence[tuple[Box, ...]],
    points: Sequence[tuple[Point, ...]],
) -> Sample:
    """Deal groups of boxes and points out to the placeholders, in order, and make the sample."""
    _check_images(row, messages, images)
    _check_count(row, messages, BOXES_PLACEHOLDER, len(boxes))
    _check_count(row, messages, POINTS_PLACEHOLDER, len(points))
    image = _box_image(row, images)
    some_boxes, some_points = iter(boxes), iter(points)
    turns = [
        Turn(
            message.role,
            message.text,
            tuple(islice(some_boxes, message.text.count(BOXES_PLACEHOLDER))),
            image,
            tuple(islice(some_points, message.text.count(POINTS_PLACEHOLDER))),
        )
        for message in messages
    ]
    task = row.text("task") if row.value.get("task") is not None else None
    return Sample(row.default_id(), images, tuple(turns), task)


def check_order(row: Row, messages: Sequence[Message], key: str, options: SourceOptions) -> None:
    """System first if at all, then user and assistant in turn, the assistant last."""
    if any(message.role == "system" for message in messages[1:]):
        raise row.error(key, "expected one system message at most, at the start")
    talk = [message for message in messages if message.role != "system"]
    if not talk:
        raise row.error(key, "expected at least one user message")
    for index, message in enumerate(talk):
        expected: Role = "assistant" if index % 2 else "user"
        if message.role != expected:
            place = "to start" if index == 0 else "next"
            raise message.row.error(None, f"expected the {expected} {place}, got {message.role}")
    if options.require_answers and talk[-1].role != "assistant":
        raise row.error(key, "expected the conversation to end with the assistant's answer")


def _path_of(entry: Any) -> Any:
    """Some data sets write ``{"path": ...}`` where others write the path."""
    return entry.get("path") if isinstance(entry, dict) else entry


def _check_images(row: Row, messages: Sequence[Message], images: tuple[str, ...]) -> None:
    count = sum(message.text.count(IMAGE_PLACEHOLDER) for message in messages)
    if count != len(images):
        found = f"{count} {IMAGE_PLACEHOLDER} in the text but {len(images)} image(s)"
        key = "image" if "image" in row.value else "images"
        raise row.error(key, f"expected one {IMAGE_PLACEHOLDER} per image, got {found}")
    for message in messages:
        if message.role == "assistant" and IMAGE_PLACEHOLDER in message.text:
            raise message.row.error(None, f"expected no {IMAGE_PLACEHOLDER} in an answer")


def _check_count(row: Row, messages: Sequence[Message], placeholder: str, groups: int) -> None:
    wanted = sum(message.text.count(placeholder) for message in messages)
    if wanted != groups:
        key = placeholder.strip("<>")
        found = f"{wanted} {placeholder} in the text but {groups} groups of {key}"
        raise row.error(key, f"expected one group per {placeholder}, got {found}")


def _groups(
    row: Row,
    key: str,
    expected: str,
    parse: Callable[[Row, str, Any], T],
    images: tuple[str, ...],
) -> list[tuple[T, ...]]:
    """The groups of boxes or points under ``key``; none where there is no such key."""
    if row.value.get(key) is None:
        return []
    groups = []
    for index, group in enumerate(row.items(key, f"a list of groups of {key}, {expected}")):
        place = f"{key}[{index}]"
        if not isinstance(group, list) or not group:
            raise row.error(place, f"expected a list of {key}, not empty, got {show(group)}")
        members = (parse(row, f"{place}[{number}]", member) for number, member in enumerate(group))
        groups.append(tuple(members))
    if groups and not images:
        raise row.error(key, f"expected an image that the {key} lie in, got none")
    return groups


def _box_image(row: Row, images: tuple[str, ...]) -> int:
    index = row.value.get("box_image", 0)
    if (
        isinstance(index, bool)
        or not isinstance(index, int)
        or not 0 <= index < max(1, len(images))
    ):
        expected = f"the index of one of {len(images)} image(s)"
        raise row.error("box_image", f"expected {expected}, got {show(index)}")
    return index
