"""Images of evaluation sets, which must not be trained on.

COCO's photographs are in nearly every set: RefCOCO's test images lie in train2014, Karpathy's test
split, VQA's and POPE's images in val2014, and half of Visual Genome is COCO. So images are compared
by COCO id wherever a name or an entry gives one, and else by file name without its ending.

    COCO_val2014_000000000042.jpg, val2017/000000000042.jpg     COCO image 42
    image_id: 42, cocoid: 42                                    COCO image 42
    VG_100K/2345.jpg, imageId: 2345                             by image_data.json (``coco_id``)
    test/000012.png, 1007129816.jpg                             images whose path ends in this

Rows that say ``split: train`` (or restval) are not evaluation images. The rules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import show, strict
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError
from manyeyes.lines import split_lines
from manyeyes.records import Sample

Key = int | str
"""A COCO id, or the end of a path without the file's ending."""

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})(?:_\d+)?", re.ASCII)
_GENOME_NAME = re.compile(r"(?:v7w_)?([1-9]\d{0,6})", re.ASCII)
_ID_KEYS = ("cocoid", "image_id", "imageId")
_NAME_KEYS = ("file_name", "filename", "image", "img_path", "file_path", "image_path")
_TRAINING_SPLITS = ("train", "restval")
_TEXT_SUFFIXES = (".txt", ".ids")


@dataclass(frozen=True)
class Exclusion:
    """The images to keep out: each key with the file that names it, and VG ids with COCO's."""

    owners: Mapping[Key, str]
    genome: Mapping[int, int] = field(default_factory=dict)

    def leak(self, sample: Sample) -> str | None:
        """What is wrong with training on a sample, or None: the image and the file that names it.

        Images inside containers are compared by their names there.
        """
        for image in sample.images:
            for key in _training_keys(image, self.genome):
                if key in self.owners:
                    what = f"COCO image {key}" if isinstance(key, int) else f"image {key!r}"
                    return f"{sample.id}: {image} is {what} of {self.owners[key]}"
        return None


def read_exclusion(paths: Sequence[str | Path]) -> Exclusion:
    """Collect the images of evaluation files.

    ``paths``: annotation files of any layout (JSON, JSON lines, RefCOCO's pickles), texts with one
    image id or name per line, and Visual Genome's ``image_data.json``, which names no images but
    says which COCO image each is.

    Raises:
        DataError: a file that cannot be read, or names no image.
    """
    genome: dict[int, int] = {}
    files: list[tuple[str, Any]] = []
    for path in map(str, paths):
        content = _content(path)
        if _is_image_data(content):
            genome.update(_genome_ids(path, content))
        else:
            files.append((path, content))
    owners: dict[Key, str] = {}
    for path, content in files:
        keys = {key for written in _written(content) for key in _keys(written, genome)}
        if not keys:
            raise DataError("names no image to exclude", file=path)
        owners.update((key, path) for key in keys if key not in owners)
    return Exclusion(owners, genome)


def _content(path: str) -> Any:
    """The whole file as JSON values; of a text its lines."""
    if path.lower().endswith(_TEXT_SUFFIXES):
        check_regular(path)
        try:
            lines = split_lines(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read: {error}", file=path) from error
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    document = open_document(path)
    if document.layout == "packed":
        raise DataError("expected annotations or a list of image ids", file=path)
    if document.layout != "lines":
        return document.content
    return [row.value for row in strict(document.records())]


def _written(content: Any) -> Iterator[Key]:
    """Every image that a file names, as an id or a name, in any layout."""
    if isinstance(content, dict) and _holds_objects(content.get("images")):
        content = content["images"]  # annotations refer to these
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("split") in _TRAINING_SPLITS:
                continue
            yield from _of_entry(value)
            waiting.extend(child for child in value.values() if isinstance(child, dict | list))
        elif isinstance(value, list) and value and not isinstance(value[0], int | float):
            waiting.extend(child for child in value if isinstance(child, dict | list))
    if isinstance(content, list):
        yield from (line for line in content if isinstance(line, str))


def _of_entry(entry: Mapping[str, Any]) -> Iterator[Key]:
    """The image of one object: its COCO id and names; other ids only where there is neither."""
    if isinstance(entry.get("cocoid"), int):
        yield entry["cocoid"]
        return
    names = [entry[key] for key in _NAME_KEYS if isinstance(entry.get(key), str)]
    yield from names
    for key in _ID_KEYS if not names else ():
        value = entry.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield f"{value}.jpg" if key == "imageId" else value  # GQA's are not COCO's


def _keys(written: Key, genome: Mapping[int, int]) -> Iterator[Key]:
    """The keys under which an evaluation image is excluded."""
    if isinstance(written, int):
        yield written
        return
    path = _without_ending(written)
    coco = _coco_id(path.name, genome)
    if coco is not None:
        yield coco
    if path.name and not _COCO_NAME.fullmatch(path.name):
        yield str(path).lstrip("/")
    if written.isdecimal():
        yield int(written)


def _training_keys(image: str, genome: Mapping[int, int]) -> Iterator[Key]:
    """The keys that an image of a training row may be known by."""
    path = _without_ending(image)
    coco = _coco_id(path.name, genome)
    if coco is not None:
        yield coco
    parts = path.parts
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _coco_id(stem: str, genome: Mapping[int, int]) -> int | None:
    found = _COCO_NAME.fullmatch(stem)
    if found:
        return int(found.group(1))
    found = _GENOME_NAME.fullmatch(stem)
    return genome.get(int(found.group(1))) if found else None


def _without_ending(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    known = path.suffix[1:].isalnum() and not path.suffix[1:].isdecimal() and len(path.suffix) <= 5
    return path.with_suffix("") if known else path


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _is_image_data(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "coco_id" in first and "image_id" in first


def _genome_ids(path: str, content: Sequence[Any]) -> Iterator[tuple[int, int]]:
    for number, entry in enumerate(content, start=1):
        ids = (entry.get("image_id"), entry.get("coco_id")) if isinstance(entry, dict) else ("", "")
        identity, coco = ids
        if not isinstance(identity, int) or not isinstance(coco, int | None):
            message = f"expected image_id and coco_id, got {show(entry)}"
            raise DataError(message, file=path, entry=number)
        if coco is not None:
            yield identity, coco
