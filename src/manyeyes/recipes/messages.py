"""What is said of a wrong recipe: the first wrong key or value, with its dotted place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError


def first_message(error: ValidationError, data: Mapping[str, Any]) -> str:
    """Return one line about the first of a validation's errors."""
    first = error.errors()[0]
    place = _dotted(first["loc"], data)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error" and first["type"] != "missing":
        message = f"{message}, got {first['input']!r}"
    return f"{place}: {message}" if place else message


def _dotted(loc: tuple[int | str, ...], data: Any) -> str:
    """Write a pydantic location with stage names in place of list positions, without union tags."""
    parts: list[str] = []
    for key in loc:
        found = _child(data, key)
        if found is None and parts and data is not None and not isinstance(data, dict | list):
            break  # the rest names members of a union, not keys of the recipe
        name = found.get("name") if isinstance(key, int) and isinstance(found, dict) else None
        parts.append(str(name or key))
        data = found
    return ".".join(parts)


def _child(data: Any, key: int | str) -> Any:
    if isinstance(data, dict):
        return data.get(key)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    return None
