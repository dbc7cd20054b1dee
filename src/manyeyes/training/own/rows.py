"""A recipe's stages on your own rows: other data, and as many steps as they can feed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from manyeyes.data.own.folder import OwnData
from manyeyes.recipes import DataSource, Recipe, StageRecipe
from manyeyes.training.arguments import global_batch

PASSES = 10
"""Times that a stage goes through the rows at most, unless steps or a budget are given (ours)."""


@dataclass(frozen=True)
class OwnTraining:
    """The sources that take the place of a recipe's own, and the rows that they hold."""

    sources: tuple[DataSource, ...]
    rows: int

    def of(self, recipe: Recipe, *, keep_steps: bool = False) -> Recipe:
        """Return the recipe with these sources in every stage.

        A stage makes its own steps, but no more than ten passes over the rows; one that counts in
        epochs makes ten passes. ``keep_steps``: leave them as the recipe says.
        """
        stages = [
            stage.model_copy(
                update={
                    "data": list(self.sources),
                    "mixture": "concatenate",
                    "training": stage.training if keep_steps else self._training(stage),
                }
            )
            for stage in recipe.stages
        ]
        return recipe.model_copy(update={"stages": stages, "world": None})

    def _training(self, stage: StageRecipe) -> dict[str, object]:
        most = max(1, math.ceil(self.rows * PASSES / global_batch(stage)))
        own = int(stage.training.get("max_steps", -1))
        return {**stage.training, "max_steps": min(own, most) if own > 0 else most}


def own_training(data: OwnData) -> OwnTraining:
    """Return what a prepared folder has to train on."""
    sources = tuple(
        DataSource(path=source.path, format=source.format, image_root=source.image_root)
        for source in data.sources
    )
    return OwnTraining(sources, data.rows)
