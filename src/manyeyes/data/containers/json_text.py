"""JSON of data files: a key that stands twice in one object is noticed, not overwritten."""

from __future__ import annotations

import json
from typing import Any


class Repeated(dict[str, Any]):
    """An object in which ``key`` stands twice."""

    key: str


def parse_json(text: str) -> tuple[Any, bool]:
    """Return what ``text`` holds, and whether there is a `Repeated` in it.

    Raises:
        ValueError, RecursionError: it is not JSON, or too deep.
    """
    repeats = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeats
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        repeats = True
        twice = Repeated(found)
        names = [name for name, _ in pairs]
        twice.key = next(name for place, name in enumerate(names) if name in names[:place])
        return twice

    return json.loads(text, object_pairs_hook=build), repeats
