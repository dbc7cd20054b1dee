"""Turn a plain mapping (from YAML, JSON or keyword arguments) into a frozen options dataclass.

Unknown keys name the nearest valid key; lists become tuples, so that options stay hashable.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeVar

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from manyeyes.errors import ManyEyesError, RecipeError, nearest

T = TypeVar("T")


def parse_options(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from ``values``; ``where`` is the dotted place named in errors.

    Raises:
        RecipeError: unknown or missing key, a value of another type than the field's, or one that
            ``cls.__post_init__`` refuses.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: expected a block of keys, got {values!r}")
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
    frozen = {key: _freeze(value) for key, value in values.items()}
    try:
        made = cls(**frozen)  # its own checks first: they say more than a type does
    except (TypeError, ValueError) as error:
        if not isinstance(error, ManyEyesError):
            _check_types(cls, frozen, where)
        raise
    _check_types(cls, frozen, where)
    return made


def check_type(where: str, value: object, annotation: Any) -> None:
    """Raise ``RecipeError`` unless ``value`` is of the type ``annotation`` as it stands."""
    try:
        _adapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise RecipeError(f"{where}: {message[:1].lower()}{message[1:]}, got {value!r}") from error


def _check_types(cls: Any, values: Mapping[str, Any], where: str) -> None:
    types = _types(cls)
    for key, value in values.items():
        if not (isinstance(value, Mapping) and _holds_options(types[key])):
            check_type(f"{where}.{key}", value, types[key])


def _holds_options(annotation: Any) -> bool:
    """Whether a field is options of its own, whose class reads a block of keys itself."""
    return any(dataclasses.is_dataclass(a) for a in (annotation, *typing.get_args(annotation)))


@functools.cache
def _types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        rules = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
        return TypeAdapter(annotation, config=rules)
    except PydanticSchemaGenerationError:
        return TypeAdapter(Any)


def check_choice(where: str, key: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raise ``RecipeError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        hint = nearest(str(value), [str(choice) for choice in choices])
        listed = ", ".join(repr(choice) for choice in choices)
        raise RecipeError(f"{where}.{key}: {value!r} is not one of {listed}{hint}")


def names_with_plugins(
    table: dict[str, Any], group: str, wanted: str, fits: Callable[[Any], bool]
) -> tuple[str, ...]:
    """Enter the plug-in ``wanted`` into ``table``, if there is one; return all that may be named.

    A plug-in is an entry point of ``group`` of another package. It is looked for only where
    ``table`` lacks what is wanted, so it never takes the place of a member of ours, and is imported
    only where it is wanted itself. ``fits``: whether an object is a member.

    Raises:
        RecipeError: it cannot be imported, is something else, or two packages have that name.
    """
    if wanted in table:
        return tuple(table)
    points = {p.name: p for p in metadata.entry_points(group=group) if p.name not in table}
    if wanted in points:
        table[wanted] = _loaded(points[wanted], fits)
    return (*table, *sorted(points.keys() - table.keys()))


def _loaded(point: metadata.EntryPoint, fits: Callable[[Any], bool]) -> Any:
    what = f"{point.group}: the plug-in {point.name!r} ({point.value})"
    rivals = {p.value for p in metadata.entry_points(group=point.group, name=point.name)}
    if len(rivals) > 1:
        raise RecipeError(f"{what} is there several times: {', '.join(sorted(rivals))}")
    try:
        member = point.load()
    except Exception as error:  # foreign code, which may raise anything
        raise RecipeError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    if not fits(member):
        raise RecipeError(f"{what} is something else: {member!r}")
    return member


def check_counts(where: str, **values: object) -> None:
    """Raise ``RecipeError`` unless each of ``values`` is a whole number of at least 1."""
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RecipeError(f"{where}.{key}: {value!r} is not a whole number of at least 1")


def check_heads(where: str, width: int, heads: int) -> None:
    """Raise ``RecipeError`` unless both are counts and ``heads`` divides ``width``."""
    check_counts(where, width=width, heads=heads)
    if width % heads:
        raise RecipeError(f"{where}.heads: {heads} heads do not divide the width {width}")


def plain(options: object) -> dict[str, Any]:
    """Return the dataclass ``options`` as JSON-ready data (tuples become lists)."""
    return {key: _thaw(value) for key, value in dataclasses.asdict(options).items()}  # type: ignore[call-overload]


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value
