"""Whether a run folder may be continued with a recipe: what decides weights must be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manyeyes.errors import RecipeError
from manyeyes.recipes import Recipe, load_recipe

FREE = (
    "activation_checkpointing",
    "dataloader_",
    "ddp_",
    "disable_tqdm",
    "fsdp",
    "gradient_accumulation_steps",
    "log",
    "per_device_train_batch_size",
    "report_to",
    "run_name",
    "save_",
)
"""Beginnings of ``training`` fields that may change on resume: place, pace and logging.

Batch fields are among them because another number of processes splits a global batch otherwise.
"""


def check_same_recipe(recipe: Recipe, path: Path) -> None:
    """Compare ``recipe`` with the resolved recipe that a run was started with.

    Raises:
        RecipeError: they differ in something that decides the weights; names the first such key.
    """
    before = dict(_flat(load_recipe(path).model_dump(mode="json")))
    now = dict(_flat(recipe.model_dump(mode="json")))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key) and not _may_change(key):
            raise RecipeError(
                f"{path.parent} was started with {key} = {before.get(key)!r}, not "
                f"{now.get(key)!r}; choose another folder, or go back to that value"
            )


def _may_change(key: str) -> bool:
    _, found, field = key.partition(".training.")
    return key == "description" or bool(found and field.startswith(FREE))


def _flat(data: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items: Iterator[tuple[Any, Any]] | None = None
    if isinstance(data, Mapping):
        items = iter(data.items())
    elif isinstance(data, list):
        items = ((_name(item, index), item) for index, item in enumerate(data))
    if items is None:
        yield prefix, data
        return
    for key, value in items:
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))


def _name(item: Any, index: int) -> str:
    name = item.get("name") if isinstance(item, Mapping) else None
    return str(name or index)
