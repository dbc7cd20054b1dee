"""Finding a benchmark's files and images in a data folder, and reading annotation files."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from manyeyes.data.containers.documents import Document, open_document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, strict
from manyeyes.data.containers.tables import CellImage, in_base64, table_rows
from manyeyes.data.files import iter_samples
from manyeyes.data.readers.coco import entries
from manyeyes.errors import DataError, UsageError
from manyeyes.inference.questions import Item
from manyeyes.records import IMAGE_PLACEHOLDER, PackedImage, Sample

TABLE_SUFFIXES = (".tsv", ".csv", ".txt")
_COCO_FOLDERS = ("train2014", "val2014", "train2017", "val2017")
_IMAGE_FOLDERS = (
    *("", "images/{split}", "images", "{split}"),
    *(f"{parent}{folder}" for folder in _COCO_FOLDERS for parent in ("", "images/")),
    *("train_images", "test_images"),
    *("flickr30k-images", "flickr30k_images"),
)


@dataclass(frozen=True)
class Source:
    """One split in a data folder."""

    data_dir: Path
    split: str


def find_file(source: Source, patterns: Sequence[str], what: str) -> Path:
    """The first of the named files that exists in the data folder.

    Raises:
        DataError: none exists; the message names all of them.
    """
    return find_files(source, patterns, what)[0]


def find_files(source: Source, patterns: Sequence[str], what: str) -> list[Path]:
    """The files of the first pattern that is there; a ``*`` in it stands for several, in order.

    Raises:
        DataError: none is there; the message names all of them.
    """
    names = [pattern.format(split=source.split) for pattern in patterns]
    for name in names:
        paths = sorted(source.data_dir.glob(name)) if "*" in name else [source.data_dir / name]
        found = [path for path in paths if path.is_file()]
        if found:
            return found
    if not source.data_dir.is_dir():
        raise DataError("no such data folder", file=str(source.data_dir))
    message = f"holds no {what} for split {source.split!r}; expected one of: {', '.join(names)}"
    raise DataError(message, file=str(source.data_dir))


def placed(*names: str) -> tuple[str, ...]:
    """Each file name, and the same name in the folder ``annotations``."""
    return tuple(f"{folder}{name}" for name in names for folder in ("", "annotations/"))


def released(*folders: str) -> tuple[str, ...]:
    """A split's parquet files, whole or in shards, as `datasets` writes them: in ``data`` or loose,
    or in one of ``folders``.
    """
    places = ("data/", "", *(f"{folder}/" for folder in folders))
    return tuple(f"{p}{{split}}{e}" for p in places for e in (".parquet", "-*-of-*.parquet"))


def find_sets(source: Source, sets: Mapping[str, Sequence[str]], what: str) -> list[Path]:
    """The files of those sets (name -> patterns) that exist; DataError if there is none."""
    found, failure = [], None
    for patterns in sets.values():
        try:
            found.append(find_file(source, patterns, what))
        except DataError as error:
            failure = failure or error
    if not found and failure is not None:
        raise failure
    return found


def find_image(source: Source, written: str) -> str:
    """The path of an image that a file names, or the name itself where nothing is found.

    It is looked for as written (from the data folder), then under ``images/SPLIT``, ``images``,
    ``SPLIT``, COCO's folders (RefCOCO's splits all lie in ``train2014``), TextVQA's and
    Flickr30k's. A name without an ending (GQA's ids) is looked for with .jpg and .png too.
    """
    endings = ("",) if Path(written).suffix else ("", ".jpg", ".png")
    for folder in _IMAGE_FOLDERS:
        for ending in endings:
            candidate = source.data_dir / folder.format(split=source.split) / f"{written}{ending}"
            if candidate.is_file():
                return str(candidate)
    return written


def place_images(items: Sequence[Item], source: Source) -> list[Item]:
    """The items with the paths of their images in a data folder, of those that are found there."""
    named = dict.fromkeys(image for item in items for image in item.images)
    found = {image: find_image(source, image) for image in named}
    return [
        replace(
            item,
            image=found[item.image],
            more_images=tuple(found[image] for image in item.more_images),
        )
        for item in items
    ]


def written_image(row: Row, key: str, name: str) -> str:
    """The image's path as a row writes it; DataError for URLs and paths that lead out.

    An ``image`` key of the row comes first: files of the built-in world have one where the official
    ones name images by number.
    """
    if isinstance(row.value.get("image"), str):
        key, name = "image", row.value["image"]
    return image_path(row, key, name, SourceOptions("."))


def row_images(row: Row, keys: str | Sequence[str]) -> list[str]:
    """The images of a row under those keys that it has, at least one; in base64 or by path."""
    several = (keys,) if isinstance(keys, str) else keys
    found = [key for key in several if key in row.value]
    return [_row_image(row, key) for key in found or several[:1]]


def _row_image(row: Row, key: str) -> str:
    value = row.get(key, "an image, or its path")
    if isinstance(value, str) and not isinstance(value, PackedImage) and in_base64(value):
        return CellImage.of(f"{row.file}/{row.number}/{key}", value)
    return written_image(row, key, value)


def plain_text(row: Row, key: str) -> str:
    """The text under a key without places for images, which stand in front of it."""
    return row.text(key).replace(IMAGE_PLACEHOLDER, "").strip()


def expect_files(paths: Sequence[Path], *what: str) -> list[Path]:
    """The annotation files of a benchmark that takes exactly ``what``, in that order.

    Raises:
        UsageError: more or fewer files.
    """
    if len(paths) != len(what):
        files = "file" if len(what) == 1 else "files"
        wanted = f"{len(what)} annotation {files} ({', '.join(what)})"
        raise UsageError(f"expected {wanted}, got {len(paths)}: {', '.join(map(str, paths))}")
    return list(paths)


def record_rows(document: Document) -> Iterator[Row]:
    """The objects of a JSON list or of JSON lines, in order; DataError for the first broken one."""
    return strict(document.records())


def file_rows(path: Path, key: str | None = None) -> Iterator[Row]:
    """The rows of a file in any layout: a table, JSON (a list, or that under ``key``), parquet.

    Raises:
        DataError: the first broken row, or a file without rows.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        rows = table_rows(path, ())
    else:
        document = open_document(path)
        listed = key is not None and document.layout == "object"
        rows = iter(list_rows(document, str(key))) if listed else record_rows(document)
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError("holds no rows", file=str(path))


def rows_of(paths: Sequence[Path], key: str | None = None) -> Iterator[Row]:
    """The rows of a file, or of one after the other (see `file_rows`)."""
    for path in paths:
        yield from file_rows(path, key)


def list_rows(document: Document, key: str) -> list[Row]:
    """The objects of the list under ``key`` of one JSON object, at least one.

    Raises:
        DataError: there is no such list, it is empty, or the first broken object.
    """
    if document.layout != "object":
        raise DataError(f"expected an object with the list {key!r}", file=document.path)
    rows = list(strict(entries(document, key)))
    if not rows:
        raise DataError("holds no rows", file=document.path, key=key)
    return rows


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector from going through millions of new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_samples(path: Path, format: str, *, annotations: Path | None = None) -> list[Sample]:
    """Read a file in one known format; images are named as the file writes them.

    Raises:
        DataError: the first broken row, with file, line and key; or a file without rows.
    """
    answers = None if annotations is None else str(annotations)
    options = SourceOptions(".", annotations=answers)
    samples = list(iter_samples(path, format=format, options=options))
    if not samples:
        raise DataError("holds no rows", file=str(path))
    return samples
