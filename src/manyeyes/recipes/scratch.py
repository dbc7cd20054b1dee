"""Recipes without the starts that ship with the world: what ``--from-scratch`` changes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from manyeyes.recipes.blocks import WeightSource
from manyeyes.recipes.load import load_recipe

STARTS = "world:starts/"


def from_scratch(recipe: str, settings: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the settings that leave every start that ships out of a recipe with its ``settings``.

    A later stage that took all of its weights from one begins ``fresh``.

    Raises:
        RecipeError: no such recipe, or a setting that does not fit it.
    """
    found = []
    for position, stage in enumerate(load_recipe(recipe, settings).stages):
        kept = [source for source in stage.start if not _ships(source)]
        if len(kept) < len(stage.start):
            written = [source.model_dump(exclude_defaults=True) for source in kept]
            found.append(f"stages.{stage.name}.start={json.dumps(written)}")
            if position and not kept:
                found.append(f"stages.{stage.name}.fresh=true")
    return tuple(found)


def _ships(source: WeightSource) -> bool:
    return (source.checkpoint or "").startswith(STARTS)
