"""Shared by the COCO formats: the images of the file by id, with their resolved paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from manyeyes.data.documents import Document
from manyeyes.data.rows import Row, SourceOptions, image_path, show
from manyeyes.errors import DataError


@dataclass(frozen=True)
class CocoImage:
    """One entry of ``images``; ``number`` is its place in that list, from 1.

    ``size`` is (width, height) in pixels where the entry says it.
    """

    id: str | int
    number: int
    path: str
    size: tuple[int, int] | None = None


def coco_images(
    document: Document, options: SourceOptions
) -> tuple[dict[str | int, CocoImage], list[DataError]]:
    """All usable entries of ``images`` by id, and the errors of the others."""
    images: dict[str | int, CocoImage] = {}
    errors = []
    for row in entries(document, "images"):
        try:
            if isinstance(row, DataError):
                raise row
            identity = row.identity("id")
            if identity in images:
                raise row.error("id", f"expected an id of its own, got {identity!r} again")
            path = image_path(row, "file_name", row.get("file_name", "a path"), options)
            images[identity] = CocoImage(identity, row.number, path, written_size(row))
        except DataError as error:
            errors.append(error)
    return images, errors


def written_size(row: Row) -> tuple[int, int] | None:
    """``width`` and ``height`` of a row in pixels; None unless both are usable."""
    width, height = row.value.get("width"), row.value.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return None
    return width, height


def entries(document: Document, key: str) -> Iterator[Row | DataError]:
    """The objects of one top-level list, each with its place in the list as number."""
    whole = document.whole()
    for index, value in enumerate(whole.items(key, "a list of objects")):
        try:
            child = whole.child(key, index, value)
            yield Row(child.file, index + 1, child.value, child.prefix)
        except DataError as error:
            yield DataError(
                f"expected an object, got {show(value)}",
                file=document.path,
                line=index + 1,
                key=error.key,
            )


def image_of(row: Row, images: dict[str | int, CocoImage]) -> CocoImage:
    """The image that a row's ``image_id`` names."""
    identity = row.identity("image_id")
    if identity not in images:
        raise row.error("image_id", f"expected the id of one of 'images', got {identity!r}")
    return images[identity]
