"""Tables as pandas writes them, cells parted by tabs or by commas, images in base64 (MMBench)."""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from manyeyes.data.containers.rows import Row
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError
from manyeyes.records import PackedImage

LONGEST_PATH = 64
"""Of a text that may be the path of an image though it has no full stop."""


def in_base64(text: str) -> bool:
    """Whether a cell that holds an image holds it in base64, not its path."""
    return len(text) > LONGEST_PATH and "." not in text


class CellImage(PackedImage):
    """An image in a cell of a table, in base64; named ``TABLE/INDEX``."""

    encoded: str

    @classmethod
    def of(cls, name: str, encoded: str) -> CellImage:
        """The image of a cell; it is decoded when it is read."""
        image = cls(name)
        image.encoded = encoded
        return image

    def read(self) -> bytes:
        try:
            return base64.b64decode(self.encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"is not base64: {error}", file=str(self)) from error

    def __reduce__(self) -> tuple[object, ...]:
        return CellImage.of, (str(self), self.encoded)


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table with a header; empty cells are left out, numbers stay text.

    Row numbers are lines of the file (the last line of a row, where cells hold line ends).

    Raises:
        DataError: the file cannot be read, is not UTF-8, lacks one of ``columns``, or a row has
            more or fewer cells than the header.
    """
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as stream, _long_cells():
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter="\t" if "\t" in first else ",")
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                found = ", ".join(header[:12]) or "nothing"
                message = f"lacks the columns {', '.join(missing)}; its first line holds: {found}"
                raise DataError(message, file=str(path))
            for cells in reader:
                yield _row(path, reader.line_num, header, cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(f"cannot be read as a table: {reason}", file=str(path)) from error


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        message = f"expected {len(header)} cells as in the first line, got {len(cells)}"
        raise DataError(message, file=str(path), line=line)
    named = zip(header, cells, strict=True)
    filled = {name: cell for name, cell in named if cell.strip()}
    return Row(str(path), line, filled, unit="line")


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lets cells be as long as images are; the limit is one for the whole process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
