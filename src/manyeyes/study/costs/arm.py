"""What an arm costs, from its recipe alone: tokens, parameters, arithmetic. Nothing is run.

Operations are those of `costs.stage`, with every encoder's forward counted whether or not its
features are stored: what an arm costs must not depend on what happened to be on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from manyeyes.recipes import Recipe
from manyeyes.study.costs.recipe import build_on_meta, stage_models
from manyeyes.study.costs.stage import stage_cost
from manyeyes.training.trainable import assign


@dataclass(frozen=True)
class Price:
    """``trained``: parameters that learn in some stage. ``operations``: per step, by stage.

    ``operations_per_sample`` is the mean over all samples of the run.
    """

    visual_tokens: int
    parameters: int
    trained: int
    operations: Mapping[str, float]
    operations_per_sample: float


def price_of(recipe: Recipe) -> Price:
    """Return the price of a recipe.

    Raises:
        RecipeError, PartError, CheckpointError: as `inspect_recipe`.
    """
    rate = dict.fromkeys((torch.float32, torch.bfloat16), 1.0)
    config, whole = build_on_meta(recipe.model)
    trained: dict[str, int] = {}
    operations: dict[str, float] = {}
    total = samples = 0.0
    for stage, stage_config, model in stage_models(recipe, config, whole):
        assignment = assign(model, stage.train)
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        trained |= {name: size for name, size in sizes.items() if assignment[name] is not None}
        uncached = stage.model_copy(update={"cache_features": False})
        cost = stage_cost(uncached, stage_config, model, assignment, rate)
        operations[stage.name] = cost.operations_per_step
        total += cost.operations_per_step * (cost.steps or 1)
        samples += cost.samples_per_step * (cost.steps or 1)
    return Price(
        visual_tokens=config.visual_tokens,
        parameters=sum(p.numel() for p in whole.parameters()),
        trained=sum(trained.values()),
        operations=operations,
        operations_per_sample=total / samples,
    )
