"""A new recipe file that extends another: its stages written out, on own rows if there are any."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from manyeyes.data.own.folder import TEST_FILE, OwnData
from manyeyes.errors import UsageError
from manyeyes.files import write_text
from manyeyes.recipes import DataSource, Recipe, load_recipe
from manyeyes.recipes.names import SUFFIXES
from manyeyes.recipes.yaml_io import dump_yaml
from manyeyes.training.own.rows import own_training

VALIDATIONS, VALIDATED = 4, 200
"""Times in a stage that held-out rows are measured, and so many of them at most (ours)."""

_HEAD = (
    "# What is not said here is as in {parent}: `manyeyes show {path}` prints all of it,\n"
    "# `manyeyes keys` explains every key.\n"
)


def refuse_existing(path: Path) -> None:
    """Raise ``UsageError`` for a recipe that is there already."""
    if path.exists():
        raise UsageError(f"{path} exists: choose another name, or remove it")


def write_recipe(path: Path, parent: str, own: OwnData | None = None) -> None:
    """Write a recipe to ``path``, on prepared own rows if there are any.

    Each stage then measures the loss of the rows that are asked, `VALIDATIONS` times.

    Raises:
        UsageError: the file is there already. RecipeError: the parent cannot be used.
    """
    refuse_existing(path)
    recipe = load_recipe(parent)
    if own is not None:
        recipe = own_training(own).of(recipe)
    text = dump_yaml(_content(recipe, path, parent, own))
    write_text(path, _HEAD.format(parent=parent, path=path) + text)
    load_recipe(path)  # what is written can be read


def _content(recipe: Recipe, path: Path, parent: str, own: OwnData | None) -> dict[str, Any]:
    beside = parent
    if parent.endswith(SUFFIXES) and not os.path.isabs(parent):
        beside = os.path.relpath(parent, path.parent)
    stages = []
    for stage in recipe.stages:
        said: dict[str, Any] = {"name": stage.name}
        steps = stage.training.get("max_steps")
        if own is not None:
            said |= {"mixture": stage.mixture}
            said["data"] = [_brief(source) for source in stage.data]
            said["eval"] = _validation(own, int(steps or 1))
        said |= {"training": {"max_steps": steps}} if steps is not None else {}
        stages.append(said)
    return {
        "extends": beside,
        "name": path.stem,
        "description": _description(parent, own),
        "stages": stages,
    }


def _description(parent: str, own: OwnData | None) -> str:
    name = Path(parent).stem if parent.endswith(SUFFIXES) else parent
    if own is None:
        return f"Begun from {name}."
    asked = "held out" if own.held_out else "to ask"
    return f"{name} on own data: {own.rows} rows to train on, {own.test_rows} {asked}."


def _validation(own: OwnData, steps: int) -> dict[str, Any]:
    test = str((own.folder / TEST_FILE).resolve())
    every = max(1, math.ceil(steps / VALIDATIONS))
    return {"data": [{"path": test}], "every": every, "limit": VALIDATED}


def _brief(source: DataSource) -> dict[str, Any]:
    said = source.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in said.items() if key != "format"}
