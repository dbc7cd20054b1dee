"""JSON and JSON-lines files, told apart by content, read so that every broken row has a number.

lines    one JSON object per line (whatever the suffix; official POPE files end in .json)
array    one JSON list of objects
object   one JSON object that holds lists (COCO, VQA)
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from manyeyes.data.pickles import SUFFIXES, load_plain_pickle
from manyeyes.data.rows import Row, show
from manyeyes.errors import DataError

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_LIST_KEYS = ("annotations", "questions", "refs")


@dataclass(frozen=True)
class Document:
    """A data file whose layout is known; ``content`` holds the parsed JSON except for lines."""

    path: str
    layout: Literal["lines", "array", "object"]
    content: Any = None

    def records(self) -> Iterator[Row | DataError]:
        """The objects of a lines or array document in order, broken ones as errors."""
        if self.layout == "lines":
            yield from _lines(self.path)
            return
        records = self.content if self.layout == "array" else [self.content]
        for number, value in enumerate(records, start=1):
            yield _as_row(self.path, number, value)

    def whole(self) -> Row:
        """An object document as one row, for its top-level keys."""
        return Row(self.path, 1, self.content)


def open_document(path: str | Path) -> Document:
    """Find out a file's layout and parse it, except that lines are left to ``records``.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or neither JSON nor a plain pickle.
    """
    name = str(path)
    if name.lower().endswith(SUFFIXES):
        refs = load_plain_pickle(name)
        if not isinstance(refs, list):
            raise DataError(f"expected a list of references, got {show(refs)}", file=name)
        return Document(name, "object", {"refs": refs})
    if _is_lines(name):
        return Document(name, "lines")
    content = _parse_whole(name)
    if isinstance(content, list):
        return Document(name, "array", content)
    if isinstance(content, dict):
        return Document(name, "object", content)
    raise DataError(f"expected a JSON list or object, got {show(content)}", file=name)


def holds_lists(content: dict[str, Any]) -> bool:
    """Whether a top-level object is a container (COCO, VQA), not a single record."""
    return any(isinstance(content.get(key), list) for key in _LIST_KEYS)


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


def _parse_whole(name: str) -> Any:
    data = Path(name).read_bytes()
    try:
        return json.loads(data.decode("utf-8-sig"))
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
        return _as_row(name, number, json.loads(data.decode("utf-8")))
    except UnicodeDecodeError as error:
        return DataError(_not_utf8(error), file=name, line=number)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} (column {error.colno})"
        return DataError(message, file=name, line=number)
    except (ValueError, RecursionError) as error:
        return DataError(f"is not usable JSON: {error}", file=name, line=number)


def _as_row(name: str, number: int, value: Any) -> Row | DataError:
    if isinstance(value, dict):
        return Row(name, number, value)
    return DataError(f"expected an object, got {show(value)}", file=name, line=number)


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8"
