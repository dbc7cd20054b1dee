"""JSON, JSON lines and tables as bytes: equal content gives equal files on every machine."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Files = dict[str, bytes]
"""File contents by path relative to the world's folder."""


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as one line of UTF-8 JSON with a final line break."""
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def jsonl_bytes(rows: Iterable[Any]) -> bytes:
    """Return ``rows`` as JSON lines, one row each."""
    return b"".join(json_bytes(row) for row in rows)


def table_bytes(
    columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, delimiter: str = ","
) -> bytes:
    """Return ``rows`` as a table with a heading; cells that a row lacks stay empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, delimiter=delimiter, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()
