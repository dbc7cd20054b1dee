"""Benchmark items as JSON text and back, so that a harness can carry them in its own files.

JSON knows no tuples and sets: they become ``{"tuple": [...]}`` and ``{"set": [...]}``; objects
become ``{"object": {...}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from manyeyes.errors import DataError
from manyeyes.inference.questions import Item


def to_text(item: Item) -> str:
    """Return an item as one line of JSON.

    Raises:
        DataError: ``meta`` holds what is neither text, number, list, tuple, set nor object.
    """
    values = {f.name: _packed(getattr(item, f.name), item.id) for f in fields(item)}
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def from_text(text: str) -> Item:
    """Return the item that `to_text` wrote."""
    return Item(**{name: _unpacked(value) for name, value in json.loads(text).items()})


def _packed(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, list):
        return [_packed(member, name) for member in value]
    if isinstance(value, tuple):
        return {"tuple": [_packed(member, name) for member in value]}
    if isinstance(value, set | frozenset):
        return {"set": [_packed(member, name) for member in sorted(value)]}
    if isinstance(value, Mapping):
        return {"object": {str(key): _packed(member, name) for key, member in value.items()}}
    kind = type(value).__name__
    raise DataError(f"item {name!r} holds a value of type {kind}, which a task file cannot carry")


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(member) for member in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "object":
        return {key: _unpacked(member) for key, member in inside.items()}
    members = [_unpacked(member) for member in inside]
    return tuple(members) if kind == "tuple" else frozenset(members)
