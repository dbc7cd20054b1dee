"""Shared by the conversation formats: roles, order of turns, image and box placeholders.

Keys beyond the published formats, all optional, on the row: ``boxes`` (one group of pixel boxes
``[[x1, y1, x2, y2], ...]`` per ``<boxes>`` of the conversation, in order), ``box_image`` (index of
the image they lie in, 0 by default) and ``task`` (a name for reports).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manyeyes.data.rows import Row, SourceOptions, corner_box, image_path, one_of, show
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, Box, Role, Sample, Turn

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
    """Check placeholders against images and boxes and make the sample."""
    _check_images(row, messages, images)
    groups = _box_groups(row, images)
    wanted = sum(message.text.count(BOXES_PLACEHOLDER) for message in messages)
    if wanted != len(groups):
        found = f"{wanted} {BOXES_PLACEHOLDER} in the text but {len(groups)} groups of boxes"
        raise row.error("boxes", f"expected one group per {BOXES_PLACEHOLDER}, got {found}")
    turns, used = [], 0
    for message in messages:
        count = message.text.count(BOXES_PLACEHOLDER)
        boxes = tuple(groups[used : used + count])
        used += count
        turns.append(Turn(message.role, message.text, boxes, _box_image(row, images)))
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


def _box_groups(row: Row, images: tuple[str, ...]) -> list[tuple[Box, ...]]:
    if row.value.get("boxes") is None:
        return []
    expected = "a list of groups of boxes, [[[x1, y1, x2, y2], ...], ...]"
    groups = []
    for index, group in enumerate(row.items("boxes", expected)):
        if not isinstance(group, list) or not group:
            got = show(group)
            raise row.error(f"boxes[{index}]", f"expected a list of boxes, not empty, got {got}")
        key = f"boxes[{index}]"
        boxes = (corner_box(row, f"{key}[{place}]", box) for place, box in enumerate(group))
        groups.append(tuple(boxes))
    if groups and not images:
        raise row.error("boxes", "expected an image that the boxes lie in, got none")
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
