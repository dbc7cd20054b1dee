"""Recipes: YAML files that say how a model is built and trained, packaged by method and size."""

from manyeyes.recipes.load import dump_recipe, load_recipe, recipe_names, stage_model
from manyeyes.recipes.model_block import model_config
from manyeyes.recipes.schema import (
    DataSource,
    EvalRecipe,
    PartTraining,
    Recipe,
    StageRecipe,
    WeightSource,
)

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
