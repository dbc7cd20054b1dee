"""Chat messages whose content is a list of parts, as ``transformers`` writes them.

[{"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "?"}]}]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from transformers.image_utils import load_image as fetch_image

from manyeyes.errors import DataError, PlaceholderError
from manyeyes.images.reading import load_image, to_rgb
from manyeyes.records import IMAGE_PLACEHOLDER, Tags


def flatten_images(images: Any) -> list[Image.Image]:
    """Return one flat list of RGB pictures from a picture, a path, or nested lists of them."""
    if images is None:
        return []
    if isinstance(images, list | tuple):
        return [picture for item in images for picture in flatten_images(item)]
    return [to_rgb(images) if isinstance(images, Image.Image) else load_image(images)]


def placeholder_counts(texts: Sequence[str], images: int | None) -> list[int]:
    """Return the number of ``<image>`` in each text; ``images``: how many there are to be in all.

    Raises:
        PlaceholderError: there are more or fewer.
    """
    counts = [text.count(IMAGE_PLACEHOLDER) for text in texts]
    if images is not None and sum(counts) != images:
        raise PlaceholderError(
            f"{sum(counts)} {IMAGE_PLACEHOLDER} placeholders in the text, but {images} images"
        )
    return counts


def chat_arguments(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the processor's ``images`` and ``questions`` of conversations of parts."""
    return {
        "images": [conversation_images(messages) for messages in conversations],
        "questions": [last_question(messages) for messages in conversations],
    }


def conversation_images(messages: Sequence[Mapping[str, Any]]) -> list[Image.Image]:
    """Return the pictures of a conversation in reading order.

    Raises:
        DataError: an image part without a source.
        ImageError: a picture that cannot be decoded.
    """
    images = []
    for message in messages:
        parts = message["content"] if isinstance(message["content"], list) else []
        for part in parts:
            if part["type"] != "image":
                continue
            source = next((part[key] for key in ("image", "path", "url") if key in part), None)
            if source is None:
                raise DataError("an image part needs one of the keys image, path, url")
            remote = isinstance(source, str) and source.startswith(("http://", "https://", "data:"))
            images.extend(flatten_images(fetch_image(source) if remote else source))
    return images


def conversation_tags(messages: Sequence[Mapping[str, Any]]) -> Tags | None:
    """Return the tags of a conversation's images in reading order; None if no part has any.

    Raises:
        DataError: some image parts have tags and others have none.
    """
    parts = [
        part
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image"
    ]
    found = [tuple(part["tags"]) for part in parts if "tags" in part]
    if found and len(found) != len(parts):
        raise DataError(f"{len(parts)} image parts, but only {len(found)} of them have tags")
    return tuple(found) or None


def flatten_parts(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return messages with string content, ``<image>`` and a newline for each image part."""
    flat = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            parts = [
                IMAGE_PLACEHOLDER + "\n" if part["type"] == "image" else part["text"]
                for part in content
            ]
            content = "".join(parts)
        flat.append({"role": message["role"], "content": content})
    return flat


def last_question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the last user message, without its images."""
    asked = [m["content"] for m in flatten_parts(messages) if m["role"] == "user"]
    return asked[-1].replace(IMAGE_PLACEHOLDER, " ").strip() if asked else ""
