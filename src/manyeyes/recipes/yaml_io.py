"""YAML as recipes need it: ``2e-5`` is a number, and a key written twice is an error."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from manyeyes.errors import RecipeError

MAX_DEPTH, MAX_VALUES = 100, 200_000
"""Blocks in each other, and values, that a recipe may hold."""


class _RecipeLoader(yaml.SafeLoader):
    """SafeLoader that reads ``2e-5`` as a float and refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for place, _ in node.value:
            key = self.construct_object(place, deep=deep)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                line = place.start_mark.line + 1
                raise RecipeError(f"line {line}: key {key!r} is written twice in one block")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 wants a dot and a signed exponent; people write 2e-5
_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Return the data in ``text``; ``where`` (a file name or option) is named in errors.

    Raises:
        RecipeError: not valid YAML, a key twice in one block, or deeper or larger than recipes are.
    """
    try:
        data = yaml.load(text, Loader=_RecipeLoader)
        _check_size(data)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    except RecursionError as error:
        raise RecipeError(f"{where}: not usable YAML: nested too deep") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        # dates and numbers that do not exist, and tags with values of another kind
        message = " ".join(str(error).split())
        raise RecipeError(f"{where}: not valid YAML: {message or type(error).__name__}") from error
    return data


def _check_size(data: Any) -> None:
    """Raise ``RecipeError`` for data that is deep or large once every alias is followed."""
    level, depth, size = [data], 0, 0
    while level:
        size, depth = size + len(level), depth + 1
        if depth > MAX_DEPTH or size > MAX_VALUES:
            raise RecipeError(
                f"more than {MAX_DEPTH} blocks in each other, or more than {MAX_VALUES:,} values "
                "with every alias written out"
            )
        holders = [item for item in level if isinstance(item, dict | list | set)]
        level = [
            value
            for item in holders
            for value in (item.values() if isinstance(item, dict) else item)
        ]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the file ``path``.

    Raises:
        RecipeError: unreadable, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {str(path)!r}: {error}") from error
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, not a {type(data).__name__}")
    return data


def dump_yaml(data: Any) -> str:
    """Return ``data`` as YAML text, keys in their own order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
