"""Shared by the COCO formats: the images of the file by id, with their resolved paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, show, size_box
from manyeyes.errors import DataError, ImageError
from manyeyes.images.reading import image_size
from manyeyes.records import Box


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


def _of_another_size(
    images: Mapping[str | int, CocoImage], file: str, options: SourceOptions
) -> dict[str | int, DataError]:
    """The images, where they are checked, whose size is not the one that the file says."""
    errors = {}
    for image in images.values() if options.check_images else ():
        key = f"images[{image.number - 1}].width"
        try:
            check_size(image.path, image.size, file=file, entry=image.number, key=key)
        except DataError as error:
            errors[image.id] = error
    return errors


def check_size(path: str, written: tuple[int, int] | None, **place: Any) -> None:
    """Check that an image has the size that its file of boxes says; ``place``: of the error.

    Images that cannot be read are told of elsewhere.

    Raises:
        DataError: it has another size, so that the boxes are in pixels of another image.
    """
    with suppress(ImageError):
        found = image_size(path)
        if written is not None and found != written:
            message = f"says that {path} has {written[0]}x{written[1]} pixels, but it has "
            message += f"{found[0]}x{found[1]}; boxes must be in pixels of the image that is read"
            raise DataError(message, **place)


def written_size(row: Row) -> tuple[int, int] | None:
    """``width`` and ``height`` of a row in pixels; None unless both are usable."""
    width, height = row.value.get("width"), row.value.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return None
    return width, height


@dataclass(frozen=True)
class Instance:
    """One annotated or detected object; only detections have a ``score``."""

    image: CocoImage
    label: str
    box: Box
    crowd: bool
    score: float | None = None


@dataclass(frozen=True)
class CocoObjects:
    """The usable images of a file, the objects of each by its id, and the errors of the rest.

    An image with a broken object is not in ``by_image``.
    """

    images: Mapping[str | int, CocoImage]
    by_image: Mapping[str | int, list[Instance]]
    errors: tuple[DataError, ...]


def read_instances(document: Document, options: SourceOptions) -> CocoObjects:
    """Read ``images``, ``categories`` and ``annotations`` of instances or of detections."""
    images, errors = coco_images(document, options)
    others = _of_another_size(images, document.path, options)
    errors += others.values()
    names: dict[str | int, str] = {}
    for row in entries(document, "categories"):
        try:
            if isinstance(row, DataError):
                raise row
            if (category := row.identity("id")) in names:
                raise row.error("id", f"expected an id of its own, got {category!r} again")
            names[category] = row.text("name")
        except DataError as error:
            errors.append(error)
    found: dict[str | int, list[Instance]] = {i: [] for i in images if i not in others}
    seen: set[str | int] = set()
    for row in entries(document, "annotations"):
        try:
            if isinstance(row, DataError):
                raise row
            instance = _instance(row, images, names)
            check_once(row, "id", seen)
            found.get(instance.image.id, []).append(instance)
        except DataError as error:
            identity = row.value.get("image_id") if isinstance(row, Row) else None
            if isinstance(identity, str | int):
                found.pop(identity, None)
            errors.append(error)
    return CocoObjects(images, found, tuple(errors))


def _instance(
    row: Row, images: dict[str | int, CocoImage], names: Mapping[str | int, str]
) -> Instance:
    """Validate one annotation; raises ``DataError``."""
    image = image_of(row, images)
    category = row.identity("category_id")
    if category not in names:
        message = f"expected the id of one of 'categories', got {category!r}"
        raise row.error("category_id", message)
    return Instance(image, names[category], size_box(row, "bbox"), is_crowd(row), _score(row))


def is_crowd(row: Row) -> bool:
    """Whether an annotation is of a crowd; without ``iscrowd`` it is not."""
    value = row.value.get("iscrowd", 0)
    if not isinstance(value, int) or value not in (0, 1):
        raise row.error("iscrowd", f"expected 0 or 1, got {show(value)}")
    return bool(value)


def check_once(row: Row, key: str, seen: set[str | int]) -> None:
    """Add the id under ``key`` to ``seen``, if there is one; raises ``DataError`` if it was."""
    if key not in row.value:
        return
    if (identity := row.identity(key)) in seen:
        raise row.error(key, f"expected an id of its own, got {identity!r} again")
    seen.add(identity)


def _score(row: Row) -> float | None:
    value = row.value.get("score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise row.error("score", f"expected a number in 0..1, got {show(value)}")
    return float(value)


def entries(document: Document, key: str) -> Iterator[Row | DataError]:
    """The objects of one top-level list, each with its place in the list as number."""
    for index, value in enumerate(document.whole().items(key, "a list of objects")):
        place = f"{key}[{index}]"
        if isinstance(value, dict):
            yield Row(document.path, index + 1, value, f"{place}.")
        else:
            message = f"expected an object, got {show(value)}"
            yield DataError(message, file=document.path, entry=index + 1, key=place)


def image_of(row: Row, images: dict[str | int, CocoImage]) -> CocoImage:
    """The image that a row's ``image_id`` names."""
    identity = row.identity("image_id")
    if identity not in images:
        raise row.error("image_id", f"expected the id of one of 'images', got {identity!r}")
    return images[identity]
