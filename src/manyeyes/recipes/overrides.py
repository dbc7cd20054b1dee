"""``--set a.b=c``: changes to a recipe from the command line, applied before it is checked.

training.max_steps=24                  every stage
stages.align.training.max_steps=24     one stage
model.encoders.clip.levels=[1,2]       an item of a list, by its name or its position
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manyeyes.errors import RecipeError, nearest
from manyeyes.recipes.yaml_io import parse_yaml


def apply_overrides(data: dict[str, Any], settings: Iterable[str]) -> None:
    """Change the raw recipe ``data`` in place by ``key.path=value`` settings; values are YAML.

    Raises:
        RecipeError: a setting that is not ``key=value``, or a place that does not exist.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise RecipeError(f"--set {setting!r}: expected key.path=value")
        value = parse_yaml(text, f"--set {setting!r}")
        if keys[0] == "training":
            for stage in stages_of(data):
                _put(stage, keys, value, setting)
        else:
            _put(data, keys, value, setting)


def stages_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those of a raw recipe's stages that are blocks; others are told later."""
    found = data.get("stages")
    return [stage for stage in found if isinstance(stage, dict)] if isinstance(found, list) else []


def _put(data: dict[str, Any], keys: list[str], value: Any, setting: str) -> None:
    place: Any = data
    for depth, key in enumerate(keys[:-1]):
        place = _step_into(place, key, ".".join(keys[: depth + 1]), setting)
    if isinstance(place, list):
        place[_position(place, keys[-1], ".".join(keys), setting)] = value
    elif isinstance(place, dict):
        if keys[-1] == "checkpoint":  # which brings its own architecture
            place.pop("config", None)
            place.pop("backbone", None)
        place[keys[-1]] = value
    else:
        raise RecipeError(
            f"--set {setting!r}: {'.'.join(keys[:-1])} is {place!r}, not a block of keys"
        )


def _step_into(place: Any, key: str, path: str, setting: str) -> Any:
    if isinstance(place, list):
        return place[_position(place, key, path, setting)]
    if isinstance(place, dict):
        if place.get(key) is None:
            place[key] = {}
        return place[key]
    raise RecipeError(f"--set {setting!r}: {path} does not exist ({place!r} has no keys)")


def _position(items: list[Any], key: str, path: str, setting: str) -> int:
    if key.lstrip("-").isdigit():
        if -len(items) <= int(key) < len(items):
            return int(key)
        raise RecipeError(f"--set {setting!r}: {path}: the list has {len(items)} items")
    names = [str(item.get("name")) for item in items if isinstance(item, dict)]
    if key not in names:
        hint = nearest(key, names)
        raise RecipeError(
            f"--set {setting!r}: {path}: no item called {key!r}{hint}; items: {', '.join(names)}"
        )
    return names.index(key)
