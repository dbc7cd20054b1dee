"""A new recipe file that extends another: its stages written out, on own rows if there are any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyeyes.data.files import read_samples
from manyeyes.errors import UsageError
from manyeyes.files import write_text
from manyeyes.recipes import DataSource, Recipe, load_recipe
from manyeyes.recipes.names import SUFFIXES
from manyeyes.recipes.yaml_io import dump_yaml
from manyeyes.training.own.rows import OwnTraining

_HEAD = (
    "# What is not said here is as in {parent}: `manyeyes show {path}` prints all of it,\n"
    "# `manyeyes keys` explains every key.\n"
)


def write_recipe(path: Path, parent: str, train: Sequence[Path], images: Path | None) -> int:
    """Write a recipe to ``path``; return the rows that ``train`` holds.

    Raises:
        UsageError: the file is there already. RecipeError, DataError: the parent or a file of rows
            cannot be used.
    """
    if path.exists():
        raise UsageError(f"{path} exists: choose another name, or remove it")
    recipe = load_recipe(parent)
    sources, rows = [], 0
    for file in train:
        root = None if images is None else str(images.resolve())
        samples, report = read_samples(file, image_root=root)
        sources.append(DataSource(path=str(file.resolve()), format=report.format, image_root=root))
        rows += len(samples)
    if sources:
        recipe = OwnTraining(tuple(sources), rows).of(recipe)
    text = dump_yaml(_content(recipe, path, parent, own=bool(sources)))
    write_text(path, _HEAD.format(parent=parent, path=path) + text)
    load_recipe(path)  # what is written can be read
    return rows


def _content(recipe: Recipe, path: Path, parent: str, *, own: bool) -> dict[str, Any]:
    beside = parent
    if parent.endswith(SUFFIXES) and not os.path.isabs(parent):
        beside = os.path.relpath(parent, path.parent)
    stages = []
    for stage in recipe.stages:
        said: dict[str, Any] = {"name": stage.name}
        if own:
            said |= {"mixture": stage.mixture}
            said["data"] = [_brief(source) for source in stage.data]
        steps = stage.training.get("max_steps")
        said |= {"training": {"max_steps": steps}} if steps is not None else {}
        stages.append(said)
    return {
        "extends": beside,
        "name": path.stem,
        "description": recipe.description,
        "stages": stages,
    }


def _brief(source: DataSource) -> dict[str, Any]:
    said = source.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in said.items() if key != "format"}
