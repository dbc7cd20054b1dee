"""OpenAI and Hugging Face messages: ``{messages: [{role, content}], images: [path, ...]}``.

``content`` is a text, or a list of parts ``{type: text, text}``, ``{type: image}``,
``{type: image, image | path | url}`` and ``{type: image_url, image_url: {url}}``. A part without a
path takes the next one of ``images``. Paths are local files; URLs are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, one_of, show
from manyeyes.data.readers.contract import Outcome, convert_rows
from manyeyes.data.readers.conversation import ROLES, Message, build_sample, check_order, image_list
from manyeyes.records import IMAGE_PLACEHOLDER, Sample

_PART_TYPES = ("image", "image_url", "text")
_PATH_KEYS = ("image", "path", "url")


def matches(record: Mapping[str, Any]) -> bool:
    """A record with ``messages``."""
    return "messages" in record


def parse_row(row: Row, options: SourceOptions) -> Sample:
    """Validate one record and return its sample; raises ``DataError``."""
    listed = list(image_list(row, options))
    images: list[str] = []
    messages = []
    for index, value in enumerate(row.items("messages", "a list of {role, content}")):
        message = row.child("messages", index, value)
        role = ROLES[one_of(message, "role", ROLES)]
        text = _content(message, listed, images, options)
        messages.append(Message(message, role, text))
    check_order(row, messages, "messages", options)
    return build_sample(row, messages, tuple(images + listed))


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per record."""
    return convert_rows(document, options, parse_row)


def _content(row: Row, listed: list[str], images: list[str], options: SourceOptions) -> str:
    """A message's text; moves the images it uses from ``listed`` (or its parts) to ``images``."""
    if isinstance(row.get("content", "a text or a list of parts"), str):
        text = row.text("content")
        for _ in range(text.count(IMAGE_PLACEHOLDER)):
            images.extend(listed[:1])
            del listed[:1]
        return text
    pieces = []
    for index, value in enumerate(row.items("content", "a text or a list of parts")):
        part = row.child("content", index, value)
        if one_of(part, "type", _PART_TYPES) == "text":
            pieces.append(part.text("text"))
        else:
            images.append(_image(part, listed, options))
            pieces.append(IMAGE_PLACEHOLDER)
    if not pieces:
        raise row.error("content", "expected at least one part, got an empty list")
    return "\n".join(pieces)


def _image(part: Row, listed: list[str], options: SourceOptions) -> str:
    """The path of an image part: its own, or the next listed one."""
    if part.value["type"] == "image_url":
        holder = part.get("image_url", "{url: path}")
        url = holder.get("url") if isinstance(holder, dict) else holder
        return image_path(part, "image_url", url, options)
    for key in _PATH_KEYS:
        if part.value.get(key) is not None:
            return image_path(part, key, part.value[key], options)
    if not listed:
        keys = ", ".join(_PATH_KEYS)
        got = show(dict(part.value))
        raise part.error(None, f"expected {keys} or one more path in 'images', got {got}")
    return listed.pop(0)
