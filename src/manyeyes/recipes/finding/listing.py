"""The packaged recipes as a table, from the file that ships beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manyeyes.recipes.names import PACKAGED, find_recipe
from manyeyes.recipes.yaml_io import read_yaml

TABLE_FILE = PACKAGED / "table.json"


@dataclass(frozen=True)
class ListedRecipe:
    """One recipe: what it is made of and takes.

    ``trainable``: parameters that learn in the stage with most of them. ``memory_gib``: by
    estimate, of the stage that takes most, in one process; these numbers are None where a part does
    not ship. ``digest``: of its files.
    """

    description: str
    encoders: tuple[str, ...]
    fusion: str
    language: str
    parameters: int | None
    trainable: int | None
    visual_tokens: int | None
    memory_gib: float | None
    digest: str


def listed_recipes() -> Mapping[str, ListedRecipe]:
    """Return name -> row of every packaged recipe."""
    rows: dict[str, dict[str, Any]] = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    return {
        name: ListedRecipe(**{**row, "encoders": tuple(row["encoders"])})
        for name, row in rows.items()
    }


def digest(name: str) -> str:
    """Return a hash of a packaged recipe's file and of those that it extends."""
    found = hashlib.sha256()
    step: str | None = name
    while step is not None:
        path = find_recipe(step)
        found.update(path.read_bytes())
        step = read_yaml(path).get("extends")
    return found.hexdigest()[:16]
