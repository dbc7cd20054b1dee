"""JSON and JSON lines as bytes: equal content gives equal files on every machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Files = dict[str, bytes]
"""File contents by path relative to the world's folder."""


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as one line of UTF-8 JSON with a final line break."""
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def jsonl_bytes(rows: Iterable[Any]) -> bytes:
    """Return ``rows`` as JSON lines, one row each."""
    return b"".join(json_bytes(row) for row in rows)
