"""The ``model:`` block of a recipe: checked by the configuration class that it becomes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from manyeyes.errors import ManyEyesError, RecipeError, nearest
from manyeyes.model.configuration import ManyEyesConfig

NOT_IN_RECIPES = ("self", "kwargs", "references", "text_config", "image_tokens", "untied", "lora")


def model_config(model: Mapping[str, Any], where: str = "model") -> ManyEyesConfig:
    """Return the configuration that a ``model:`` block describes; reads no file.

    Raises:
        RecipeError: unknown key (naming the nearest) or a value that a part refuses.
    """
    known = [
        name
        for name in inspect.signature(ManyEyesConfig.__init__).parameters
        if name not in NOT_IN_RECIPES
    ]
    for key in model:
        if key not in known:
            hint = nearest(str(key), known)
            raise RecipeError(f"{where}: unknown key {key!r}{hint}; valid keys: {', '.join(known)}")
    if not model.get("encoders"):
        raise RecipeError(f"{where}.encoders: expected at least one encoder")
    try:
        return ManyEyesConfig(**model)
    except ManyEyesError as error:
        raise RecipeError(f"{where}: {error}") from error


def check_model(model: Mapping[str, Any], where: str = "model") -> None:
    """Raise what `model_config` raises; the configuration that is used is made when training."""
    model_config(model, where)
