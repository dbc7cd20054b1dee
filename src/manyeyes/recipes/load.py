"""Find, inherit, override and check recipes.

    load_recipe("comm/world", ["training.max_steps=24"])      packaged name, or a path to YAML

A recipe may ``extends:`` one parent (a packaged name, or a path relative to its own file). Blocks
are merged key by key, stages by name; a block whose ``name`` or ``checkpoint`` changes replaces the
parent's; other lists are replaced, unless the change is a block of keys by the items' names
(``encoders: {mae: {mask_ratio: 0.5}}``). A stage with ``drop: true`` takes the parent's stage of
its name out. A ``training:`` block at the top holds defaults for every stage.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from manyeyes.errors import RecipeError, nearest
from manyeyes.recipes.architectures import write_out_architectures
from manyeyes.recipes.model_block import check_model
from manyeyes.recipes.names import find_recipe
from manyeyes.recipes.overrides import apply_overrides, stages_of
from manyeyes.recipes.schema import Recipe, StageRecipe, parse_recipe, told_together
from manyeyes.recipes.yaml_io import dump_yaml, read_yaml


def load_recipe(recipe: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Return the checked recipe ``recipe`` (packaged name or YAML path) with ``--set`` settings.

    Raises:
        RecipeError: no such recipe, unknown key or impossible value, bad setting.
    """
    data = read_recipe(find_recipe(recipe))
    push_down_training(data)
    apply_overrides(data, settings)
    write_out_architectures(data, str(recipe))
    checked = _checked(data, str(recipe))
    for stage in checked.stages:
        check_model(stage_model(checked, stage), f"{recipe}: model")
    return checked


def _checked(data: dict[str, Any], where: str) -> Recipe:
    """The checked recipe; where keys are wrong, the model block's mistakes are told with them."""
    try:
        return parse_recipe(data, where)
    except RecipeError as error:
        said = _lines(str(error), where)
        model = data.get("model")
        try:
            if isinstance(model, dict):
                check_model(model)
        except RecipeError as more:
            raise RecipeError(told_together(where, [*said, str(more)])) from error
        raise


def _lines(message: str, where: str) -> list[str]:
    """The mistakes that `told_together` wrote."""
    first, *rest = message.split("\n")
    return [line.partition(". ")[2] for line in rest] or [first.removeprefix(f"{where}: ")]


def stage_model(recipe: Recipe, stage: StageRecipe) -> dict[str, Any]:
    """Return the model block as ``stage`` changes it."""
    return merge(recipe.model, stage.model)


def read_recipe(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the raw data of the recipe at ``path``, merged over its parents.

    Raises:
        RecipeError: unreadable file, missing parent, or a circle of parents.
    """
    path = path.resolve()
    if path in seen:
        circle = " extends ".join(str(item) for item in (*seen, path))
        raise RecipeError(f"recipes extend each other in a circle: {circle}")
    data = read_yaml(path)
    write_out_architectures(data, str(path))
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise RecipeError(f"{path}: extends: expected one recipe name or path, got {parent!r}")
    base = read_recipe(find_recipe(parent, path.parent), (*seen, path))
    return merge(base, data)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``change`` laid over it, key by key (see the module's rules)."""
    merged = copy.deepcopy(dict(base))
    for key, value in change.items():
        old = merged.get(key)
        if key == "stages" and isinstance(old, list) and isinstance(value, list):
            merged[key] = _merge_stages(old, value)
        elif isinstance(old, dict) and isinstance(value, dict) and _same_kind(old, value):
            merged[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, dict):
            merged[key] = _merge_items(old, value, key)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML that loads back equal."""
    return dump_yaml(recipe.model_dump(mode="json"))


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(old.get(key) == new[key] for key in ("name", "checkpoint") if key in new)


def _merge_items(old: list[Any], changes: Mapping[str, Any], where: str) -> list[Any]:
    """Return a list of named blocks with ``changes`` laid over those that they name.

    Raises:
        RecipeError: a name that no item has.
    """
    names = [_name(item) for item in old]
    for name in changes:
        if name not in names:
            known = [str(item) for item in names]
            raise RecipeError(
                f"{where}: no item called {name!r}{nearest(str(name), known)}; "
                f"items: {', '.join(known)}"
            )
    for name, change in changes.items():
        if not isinstance(change, dict):
            raise RecipeError(f"{where}.{name}: expected a block of keys, got {change!r}")
    return [
        merge(item, changes.get(_name(item) or "", {})) if _name(item) else item for item in old
    ]


def _name(item: Any) -> str | None:
    """The name of a block, or None."""
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else None


def _merge_stages(old: list[Any], new: list[Any]) -> list[Any]:
    merged = list(old)
    for stage in new:
        name = _name(stage)
        places = [i for i, item in enumerate(merged) if name and _name(item) == name]
        if places and stage.get("drop"):
            del merged[places[0]]
        elif places:
            merged[places[0]] = merge(merged[places[0]], stage)
        else:
            merged.append(copy.deepcopy(stage))
    return merged


def push_down_training(data: dict[str, Any]) -> None:
    """Move the top-level ``training`` defaults into every stage, under the stage's own values."""
    defaults = data.pop("training", None)
    if defaults is None:
        return
    if not isinstance(defaults, dict):
        raise RecipeError(f"training: expected a block of TrainingArguments, got {defaults!r}")
    for stage in stages_of(data):
        own = stage.get("training")
        if own is None or isinstance(own, dict):
            stage["training"] = merge(defaults, own or {})
