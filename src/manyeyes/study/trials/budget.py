"""``--budget steps=400``: how much every arm may train, and what that makes of a recipe's stages.

    steps=N       optimizer steps in all
    samples=N     samples in all (a step takes a stage's global batch)
    flops=X       floating-point operations in all (see ``costs.arm``)
    minutes=X     minutes of optimizer steps, by each arm's own pace measured once

Stages share the budget in proportion to the steps that the recipe gives them. Shares are rounded
down to whole steps; what is left of a budget in steps goes to the largest remainders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manyeyes.errors import RecipeError, UsageError, nearest
from manyeyes.recipes import Recipe, StageRecipe
from manyeyes.training.arguments import global_batch

UNITS = ("steps", "samples", "flops", "minutes")


@dataclass(frozen=True)
class Budget:
    """An amount of training in one of ``UNITS``."""

    unit: str
    amount: float

    def __str__(self) -> str:
        whole = float(self.amount).is_integer() and self.amount < 1e12
        return f"{self.unit}={int(self.amount) if whole else self.amount}"


def parse_budget(text: str | None) -> Budget | None:
    """Return the budget that ``UNIT=AMOUNT`` names, None for None; amounts may be ``2e12``.

    Raises:
        UsageError: another form, an unknown unit, or an amount that is not positive.
    """
    if text is None:
        return None
    unit, sign, amount = text.partition("=")
    if not sign:
        raise UsageError(f"--budget takes UNIT=AMOUNT, such as steps=400, got {text!r}")
    if unit not in UNITS:
        known = ", ".join(UNITS)
        raise UsageError(f"unknown budget {unit!r}{nearest(unit, UNITS)}; known: {known}")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"--budget {text!r}: the amount must be a positive number")
    return Budget(unit, value)


def with_budget(
    recipe: Recipe, budget: Budget | None, cost_of_step: Mapping[str, float] | None = None
) -> Recipe:
    """Return ``recipe`` with the steps that ``budget`` pays for; None: the recipe's own.

    ``cost_of_step``: stage -> operations, or minutes, of one optimizer step, for these budgets.

    Raises:
        RecipeError: a stage without ``max_steps``. UsageError: less than one step for a stage.
    """
    own = [_own_steps(recipe, stage) for stage in recipe.stages]
    if budget is None:
        return recipe
    if budget.unit == "steps":
        steps = _whole_shares(int(budget.amount), own)
    else:
        steps = []
        for stage, share in zip(recipe.stages, own, strict=True):
            cost = float(global_batch(stage)) if cost_of_step is None else cost_of_step[stage.name]
            # the least bit more, so that a division that comes out even is not rounded down
            steps.append(math.floor(budget.amount * share / sum(own) / cost * (1 + 1e-9)))
    for stage, count in zip(recipe.stages, steps, strict=True):
        if count < 1:
            raise UsageError(
                f"the budget {budget} is too small for {recipe.name}: stage {stage.name!r} would "
                "not make one step"
            )
    return recipe.model_copy(
        update={
            "stages": [
                stage.model_copy(update={"training": {**stage.training, "max_steps": count}})
                for stage, count in zip(recipe.stages, steps, strict=True)
            ]
        }
    )


def _own_steps(recipe: Recipe, stage: StageRecipe) -> int:
    steps = int(stage.training.get("max_steps", -1))
    if steps < 1:
        raise RecipeError(
            f"{recipe.name}: stage {stage.name!r} is measured in epochs; a study needs its "
            f"training.max_steps (--set, or {recipe.name}:stages.{stage.name}.training.max_steps=N)"
        )
    return steps


def _whole_shares(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` in whole parts in proportion to ``weights``, largest remainders first."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [math.floor(value) for value in exact]
    order = sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return parts
