"""Parquet with the columns of ``messages``; images are ``{bytes, path}``, embedded or by path.

The schema carries the notes by which Hugging Face ``datasets`` knows the images. Row groups are
small, so that single rows can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from manyeyes.data.writers.contract import ImagePlaces, extra_keys
from manyeyes.errors import UsageError
from manyeyes.files import written_file
from manyeyes.records import PackedImage, Sample

ROWS_PER_GROUP = 100


def row(sample: Sample, places: ImagePlaces) -> dict[str, Any]:
    """One record with every column; what the sample lacks is None."""
    empty = dict.fromkeys(("task", "boxes", "points", "box_image"))
    return {
        **empty,
        **extra_keys(sample),
        "images": [_cell(image, places) for image in sample.images],
        "messages": [{"role": turn.role, "content": turn.text} for turn in sample.turns],
    }


def write(samples: Iterable[Sample], path: Path, places: ImagePlaces) -> None:
    """Write all samples, ``ROWS_PER_GROUP`` in memory at a time.

    Raises:
        UsageError: ``datasets`` is not installed.
    """
    try:
        import pyarrow
        from datasets import Features, Image, List, Value
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        message = "writing parquet needs `datasets`: pip install 'manyeyes[parquet]'"
        raise UsageError(message) from error
    groups = List(List(List(Value("float64"))))
    columns = {
        "id": Value("string"),
        "images": List(Image()),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "boxes": groups,
        "points": groups,
        "box_image": Value("int64"),
        "task": Value("string"),
    }
    schema = Features(columns).arrow_schema
    rows = (row(sample, places) for sample in samples)
    with written_file(path) as partial, ParquetWriter(partial, schema) as writer:
        for group in _groups(rows):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, ROWS_PER_GROUP)):
        yield group


def _cell(image: str, places: ImagePlaces) -> dict[str, Any]:
    """An image as ``datasets`` stores it; the path tells its name, or where it lies."""
    if not places.embed:
        return {"bytes": None, "path": places.path(image)}
    if isinstance(image, PackedImage):
        name = PurePosixPath(image).name
    else:
        name = places.relative(image)
    return {"bytes": places.data(image), "path": name}
