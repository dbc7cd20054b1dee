"""Images to look at, by the names that files of objects give them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import SourceOptions, strict
from manyeyes.data.files import detect_format, read_samples
from manyeyes.data.readers.coco import coco_images, entries
from manyeyes.errors import UsageError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Of files that a folder's images are taken from."""


@dataclass(frozen=True)
class NamedImage:
    """``path`` to read it from; ``name`` and ``id`` in files about it."""

    path: str
    name: str
    id: str | int


def images_under(places: Sequence[Path]) -> list[NamedImage]:
    """Return pictures as given and those in folders, sorted; the latter named from their folder.

    Raises:
        UsageError: nothing there, or a folder without pictures.
    """
    found = []
    for place in places:
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in ENDINGS)
            if not inside:
                raise UsageError(f"{place} holds no image ({', '.join(ENDINGS)})")
            names = [path.relative_to(place).as_posix() for path in inside]
            found += [NamedImage(str(p), n, n) for p, n in zip(inside, names, strict=True)]
        elif place.is_file():
            found.append(NamedImage(str(place), place.name, place.name))
        else:
            raise UsageError(f"no such image or folder: {place}")
    return found


def images_of(file: Path, image_root: Path) -> list[NamedImage]:
    """Return the images of a data file of any format, each once, named from ``image_root``.

    Those of a COCO file keep their ids.

    Raises:
        DataError: the file or its first broken row.
    """
    options = SourceOptions(os.fspath(image_root))
    if detect_format(file).startswith("coco"):
        images, errors = coco_images(open_document(file), options)
        if errors:
            raise errors[0]
        return [NamedImage(i.path, _named(i.path, image_root), i.id) for i in images.values()]
    samples, _ = read_samples(file, options=options)
    paths = dict.fromkeys(path for sample in samples for path in sample.images)
    names = [_named(path, image_root) for path in paths]
    return [NamedImage(path, name, name) for path, name in zip(paths, names, strict=True)]


def coco_categories(file: Path) -> Mapping[str, str | int]:
    """Return the ids of a COCO file's categories by name; empty where the file has none."""
    document = open_document(file)
    if document.layout != "object" or "categories" not in document.content:
        return {}
    found: dict[str, str | int] = {}
    for row in strict(entries(document, "categories")):
        found[row.text("name")] = row.identity("id")
    return found


def _named(path: str, image_root: Path) -> str:
    return Path(os.path.relpath(path, image_root)).as_posix()
