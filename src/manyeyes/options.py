"""Turn a plain mapping (from YAML, JSON or keyword arguments) into a frozen options dataclass.

Unknown keys name the nearest valid key; lists become tuples, so that options stay hashable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from manyeyes.errors import RecipeError, nearest

T = TypeVar("T")


def parse_options(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from ``values``; ``where`` is the dotted place named in errors.

    Raises:
        RecipeError: unknown or missing key, or a value ``cls.__post_init__`` refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise RecipeError(
                f"{where}: unknown key {key!r}{nearest(key, fields)}; valid keys: {known}"
            )
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f"{where}: missing key(s) {', '.join(missing)}")
    return cls(**{key: _freeze(value) for key, value in values.items()})


def check_choice(where: str, key: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raise ``RecipeError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        hint = nearest(str(value), [str(choice) for choice in choices])
        listed = ", ".join(repr(choice) for choice in choices)
        raise RecipeError(f"{where}.{key}: {value!r} is not one of {listed}{hint}")


def check_counts(where: str, **values: object) -> None:
    """Raise ``RecipeError`` unless each of ``values`` is a whole number of at least 1."""
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RecipeError(f"{where}.{key}: {value!r} is not a whole number of at least 1")


def plain(options: object) -> dict[str, Any]:
    """Return the dataclass ``options`` as JSON-ready data (tuples become lists)."""
    return {key: _thaw(value) for key, value in dataclasses.asdict(options).items()}  # type: ignore[call-overload]


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value
