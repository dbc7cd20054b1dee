"""What is said of a wrong recipe: the first wrong key or value, with its dotted place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError


def all_messages(error: ValidationError, data: Mapping[str, Any]) -> list[str]:
    """Say what is wrong at each place, once: members of a union fail at the same one."""
    found: dict[str, str] = {}
    for one in error.errors():
        place = _dotted(one["loc"], data)
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] != "value_error" and one["type"] != "missing":
            message = f"{message}, got {one['input']!r}"
        found.setdefault(place, f"{place}: {message}" if place else message)
    return list(found.values())


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
