"""Parquet files with images, as Hugging Face ``datasets`` writes them (extra ``parquet``).

A cell ``{bytes, path}``, or a list of them, is an image; so is a cell of a column called ``image``
or ``images`` that is binary or base64 (HR-Bench). A cell without either is a path. Rows can be read
in any order: ``datasets`` keeps a memory-mapped copy of the file in its cache
(``HF_DATASETS_CACHE``).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from manyeyes.data.containers.rows import Row
from manyeyes.data.containers.tables import LONGEST_PATH
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError, UsageError
from manyeyes.records import PackedImage

SUFFIXES = (".parquet",)

_OPEN_FILES = 64
_BATCH = 1000
_BINARY_NAMES = ("image", "images")


class ParquetImage(PackedImage):
    """The image in one cell; its text is ``FILE/ROW/NAME``. ``place`` is that in a list, or -1."""

    row: int
    column: str
    place: int
    name: str

    def __new__(cls, file: str, row: int, column: str, place: int, name: str) -> ParquetImage:
        self = super().__new__(cls, f"{file}/{row}/{name}")
        self.container, self.name = file, name
        self.row, self.column, self.place = row, column, place
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.container, self.row, self.column, self.place, self.name

    def read(self) -> bytes:
        """Return the cell's bytes.

        Raises:
            DataError: the file has gone or changed, or the cell is no base64.
        """
        try:
            cell = open_table(self.container).column(self.column)[self.row].as_py()
            value = cell if self.place < 0 else cell[self.place]
            if isinstance(value, str):
                return base64.b64decode(value, validate=True)
            data = value if isinstance(value, bytes) else value["bytes"]
            if isinstance(data, bytes):
                return data
        except binascii.Error as error:
            raise DataError(f"is not base64: {error}", file=str(self)) from error
        except (LookupError, TypeError):
            pass
        raise DataError("has changed since its rows were listed", file=self.container)


def parquet_rows(path: str) -> Iterator[Row]:
    """The rows of a file in order, images as `ParquetImage`; empty cells are left out.

    Raises:
        DataError: no such file, or no parquet. UsageError: ``datasets`` is not installed.
    """
    table = open_table(path)
    kinds = {field.name: _image_kind(field) for field in table.schema}
    number = 0
    for batch in table.to_batches(max_chunksize=_BATCH):
        columns = {
            name: _image_cells(batch.column(name)) if kind else batch.column(name).to_pylist()
            for name, kind in kinds.items()
        }
        for index in range(batch.num_rows):
            taken: set[str] = set()
            row = {
                name: _images(path, number, name, cells[index], taken)
                if kinds[name]
                else cells[index]
                for name, cells in columns.items()
                if cells[index] is not None
            }
            number += 1
            yield Row(path, number, row)


@lru_cache(maxsize=_OPEN_FILES)
def open_table(path: str) -> Any:
    """The memory-mapped ``pyarrow.Table`` of a file, kept open.

    Raises:
        DataError: no such file, or no parquet. UsageError: ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        message = f"{path}: parquet needs `datasets`: pip install 'manyeyes[parquet]'"
        raise UsageError(message) from error
    check_regular(path)
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_parquet(os.path.abspath(path)).data.table
    except Exception as error:  # pyarrow and datasets raise many kinds on damaged files
        reason = error.__cause__ or error
        raise DataError(f"is no readable parquet file: {reason}", file=path) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()


def _image_kind(field: Any) -> bool:
    """Whether a column's cells are images or lists of them."""
    import pyarrow

    kind = field.type
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        kind = kind.value_type
    if pyarrow.types.is_struct(kind):
        return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}
    types = pyarrow.types
    tests = (types.is_binary, types.is_large_binary, types.is_string, types.is_large_string)
    return field.name in _BINARY_NAMES and any(test(kind) for test in tests)


def _image_cells(column: Any) -> list[Any]:
    """Per row ``(has bytes, path)``, a list of those, or None; the bytes stay where they are."""
    import pyarrow
    import pyarrow.compute as compute

    if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
        members = iter(_image_cells(column.flatten()))
        lengths = compute.list_value_length(column).to_pylist()
        return [n if n is None else [next(members) for _ in range(n)] for n in lengths]
    if pyarrow.types.is_struct(column.type):
        here = compute.is_valid(compute.struct_field(column, "bytes")).to_pylist()
        paths = compute.struct_field(column, "path").to_pylist()
    elif pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        long = compute.greater(compute.utf8_length(column), LONGEST_PATH)
        dotted = compute.match_substring(column, ".")
        here = compute.fill_null(compute.and_not(long, dotted), False).to_pylist()
        paths = [None if has else text.as_py() for has, text in zip(here, column, strict=True)]
    else:
        here, paths = compute.is_valid(column).to_pylist(), [None] * len(column)
    cells = zip(here, paths, strict=True)
    return [(has, path) if has or path is not None else None for has, path in cells]


def _images(file: str, row: int, column: str, cells: Any, taken: set[str]) -> Any:
    """A cell as the readers take it: one image, or a list; without bytes the path as it stands."""
    if not isinstance(cells, list):
        return _image(file, row, column, -1, cells, taken)
    return [_image(file, row, column, p, cell, taken) for p, cell in enumerate(cells)]


def _image(
    file: str,
    row: int,
    column: str,
    place: int,
    cell: tuple[bool, str | None] | None,
    taken: set[str],
) -> Any:
    """Images of one row differ in their text, whatever the file calls them: names are ``taken``."""
    if cell is None:
        return None
    has_bytes, path = cell
    if not has_bytes:
        return path
    own = column if place < 0 else f"{column}-{place}"
    name = f"{own}/{path}" if path in taken else path or own
    taken.add(name)
    return ParquetImage(file, row, column, place, name)
