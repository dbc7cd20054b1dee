"""YAML as recipes need it: ``2e-5`` is a number, and a key written twice is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from manyeyes.errors import RecipeError


class _RecipeLoader(yaml.SafeLoader):
    """SafeLoader that reads ``2e-5`` as a float and refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                line = node.value[position][0].start_mark.line + 1
                raise RecipeError(f"line {line}: key {key!r} is written twice in one block")
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
        RecipeError: not valid YAML, or a key twice in one block.
    """
    try:
        return yaml.load(text, Loader=_RecipeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


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
