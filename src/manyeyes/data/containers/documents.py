"""Data files, told apart by content, read so that every broken row has a number.

lines    one JSON object per line (whatever the suffix; official POPE files end in .json)
array    one JSON list of objects
object   one JSON object that holds lists (COCO, VQA) or objects by id (GQA); RefCOCO's pickles and
         Flickr30k Entities' lists of image ids are opened as one
packed   rows with their images inside: parquet files, WebDataset tars
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from manyeyes.data.containers import parquet, pickles, tars
from manyeyes.data.containers.json_text import parse_json
from manyeyes.data.containers.pickles import load_plain_pickle
from manyeyes.data.containers.rows import Row, Unit, check_values, place_of, show
from manyeyes.data.containers.shards import expand_shards
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_LIST_KEYS = ("annotations", "image_ids", "questions", "refs")
_MESSAGE_KEYS = {"conversations", "messages"}
_PROBED = 20
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""In JSON: half of a character, or of a pair that is a whole one."""


@dataclass(frozen=True)
class Document:
    """A data file, or several shards, of a known layout; ``content``: the JSON of array, object."""

    path: str
    layout: Literal["lines", "array", "object", "packed"]
    content: Any = None
    doubtful: bool = False
    """Whether an array must be looked through: lone surrogates or repeated keys may be in it."""

    def records(self) -> Iterator[Row | DataError]:
        """The objects of a document in order, broken ones as errors."""
        if self.layout == "lines":
            yield from _lines(self.path)
            return
        if self.layout == "packed":
            for shard in expand_shards(self.path):
                yield from _packed_rows(shard)
            return
        records = self.content if self.layout == "array" else [self.content]
        for number, value in enumerate(records, start=1):
            yield _as_row(self.path, number, value, "entry", self.doubtful)

    def whole(self) -> Row:
        """An object document as one row, for its top-level keys."""
        return Row(self.path, 1, self.content, unit="file")


def open_document(path: str | Path) -> Document:
    """Find out a file's layout and parse it, except that lines are left to ``records``.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or neither JSON nor a plain pickle. What
            is wrong with packed files is found when their rows are read.
    """
    name = str(path)
    if name.lower().endswith((*tars.SUFFIXES, *parquet.SUFFIXES)):
        return Document(name, "packed")
    if name.lower().endswith(tars.COMPRESSED):
        raise DataError("is compressed; unpack it to a plain .tar first", file=name)
    check_regular(name)
    if name.lower().endswith(pickles.SUFFIXES):
        refs = load_plain_pickle(name)
        if not isinstance(refs, list):
            raise DataError(f"expected a list of references, got {show(refs)}", file=name)
        for number, ref in enumerate(refs, start=1):
            check_values(ref, place_of(name, number))
        return Document(name, "object", {"refs": refs})
    if name.lower().endswith(".txt") and (Path(name).parent / "Sentences").is_dir():
        return Document(name, "object", {"image_ids": _words(name)})
    if _is_lines(name):
        return Document(name, "lines")
    content, doubtful = _parse_whole(name)
    if isinstance(content, list):
        return Document(name, "array", content, doubtful)
    if doubtful:
        check_values(content, {"file": name})
    if isinstance(content, dict):
        return Document(name, "object", content)
    raise DataError(f"expected a JSON list or object, got {show(content)}", file=name)


def holds_lists(content: dict[str, Any]) -> bool:
    """Whether a top-level object is a container of lists (COCO, VQA), not a single record."""
    if any(isinstance(content.get(key), list) for key in _LIST_KEYS):
        return True
    images = content.get("images")
    if not isinstance(images, list) or content.keys() & _MESSAGE_KEYS:
        return False
    return any(isinstance(image, dict) for image in images[:_PROBED])


def holds_objects(content: dict[str, Any]) -> bool:
    """Whether a top-level object holds objects by id (GQA), and nothing else."""
    values = list(islice(content.values(), _PROBED))
    return bool(values) and all(isinstance(value, dict) for value in values)


def _packed_rows(shard: str) -> Iterator[Row | DataError]:
    if shard.lower().endswith(tars.SUFFIXES):
        return tars.tar_rows(shard)
    return parquet.parquet_rows(shard)


def _is_lines(name: str) -> bool:
    """By suffix, or because the first two lines that are not blank both begin an object."""
    try:
        with open(name, "rb") as stream:
            heads = (line.removeprefix(codecs.BOM_UTF8).strip() for line in stream)
            first = list(islice((head for head in heads if head), 2))
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(reason, file=name) from error
    if not first:
        raise DataError("is empty; expected JSON", file=name)
    by_suffix = name.lower().endswith(_LINE_SUFFIXES)
    return by_suffix or (len(first) == 2 and all(head.startswith(b"{") for head in first))


def _words(name: str) -> list[str]:
    """The lines of a list of image ids."""
    try:
        words = Path(name).read_bytes().decode("utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(error), file=name) from error
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(reason, file=name) from error
    if not words:
        raise DataError("is empty; expected image ids", file=name)
    return words


def _parse_whole(name: str) -> tuple[Any, bool]:
    """The JSON of a file, and whether it must be looked through."""
    data = Path(name).read_bytes()
    try:
        content, repeats = parse_json(data.decode("utf-8-sig"))
        return content, repeats or _SURROGATE.search(data) is not None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(_not_utf8(error), file=name, line=line) from error
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} (column {error.colno})"
        raise DataError(message, file=name, line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not usable JSON: {error}", file=name) from error


def _lines(name: str) -> Iterator[Row | DataError]:
    with open(name, "rb") as stream:
        for number, data in enumerate(stream, start=1):
            if number == 1:
                data = data.removeprefix(codecs.BOM_UTF8)
            if data.strip():
                yield _parse_line(name, number, data)


def _parse_line(name: str, number: int, data: bytes) -> Row | DataError:
    try:
        value, repeats = parse_json(data.decode("utf-8"))
        doubtful = repeats or _SURROGATE.search(data) is not None
        return _as_row(name, number, value, "line", doubtful)
    except UnicodeDecodeError as error:
        return DataError(_not_utf8(error), file=name, line=number)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} (column {error.colno})"
        return DataError(message, file=name, line=number)
    except (ValueError, RecursionError) as error:
        return DataError(f"is not usable JSON: {error}", file=name, line=number)


def _as_row(name: str, number: int, value: Any, unit: Unit, doubtful: bool) -> Row | DataError:
    place = place_of(name, number, unit)
    if not isinstance(value, dict):
        return DataError(f"expected an object, got {show(value)}", **place)
    try:
        if doubtful:
            check_values(value, place)
    except DataError as error:
        return error
    return Row(name, number, value, unit=unit)


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8"
