"""How the start of every arm is made."""

from __future__ import annotations

from manyeyes.world.pretrain.arms import ARMS, Arm
from manyeyes.world.pretrain.recipe import PartRecipe
from manyeyes.world.pretrain.starts import ALIGNED, ASKED, PICTURES, TOLD, StartObjective

STEPS = 1300
"""Every arm's budget: the same steps over the same pictures, whatever time an arm takes."""

MEASURED = 200
"""Held-out pictures that the card's figures are measured on."""

_SUMMARY = (
    "Fusion and bridge of `{recipe}`, trained before frozen encoders and the frozen language model "
    "of the world. It is what published projectors are to real recipes, and a shortcut that real "
    f"data do not have: {TOLD} pictures of each step are told as layouts, so every visual token "
    f"or prompt learns what lies in its cell. From step {ALIGNED} on, {ASKED} pictures a step "
    "are asked questions too. Every arm gets the same pictures, questions and steps."
)


def _recipe(arm: Arm) -> PartRecipe:
    return PartRecipe(
        objective=lambda seed, _: StartObjective(arm, seed),
        measure=lambda trained, _: {"replies about held-out pictures": trained.figures(MEASURED)},
        summary=_SUMMARY.format(recipe=arm.recipe),
        steps=STEPS,
        data=f"{PICTURES} world scenes of split train",
    )


STARTS = {f"starts/{name}": _recipe(arm) for name, arm in ARMS.items()}
"""Every start."""
