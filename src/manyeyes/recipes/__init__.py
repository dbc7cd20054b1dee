"""Recipes: YAML files that say how a model is built and trained, packaged by method and size.

What reads recipes is imported with the first of the names below; the names of recipes need nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from manyeyes.recipes.names import recipe_names

if TYPE_CHECKING:
    from manyeyes.recipes.blocks import DataSource, EvalRecipe, PartTraining, WeightSource
    from manyeyes.recipes.load import dump_recipe, load_recipe, stage_model
    from manyeyes.recipes.model_block import model_config
    from manyeyes.recipes.schema import Recipe, StageRecipe

_PLACES = {
    **dict.fromkeys(("dump_recipe", "load_recipe", "stage_model"), "load"),
    "model_config": "model_block",
    **dict.fromkeys(("DataSource", "EvalRecipe", "PartTraining", "WeightSource"), "blocks"),
    **dict.fromkeys(("Recipe", "StageRecipe"), "schema"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


__all__ = [
    "DataSource",
    "EvalRecipe",
    "PartTraining",
    "Recipe",
    "StageRecipe",
    "WeightSource",
    "dump_recipe",
    "load_recipe",
    "model_config",
    "recipe_names",
    "stage_model",
]
