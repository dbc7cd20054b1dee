"""``pretrain_start``: train one arm's start and write its folder and card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from manyeyes.errors import UsageError
from manyeyes.world.pretrain.arms import ARMS
from manyeyes.world.pretrain.cards import Card, check_part
from manyeyes.world.pretrain.finish import finish_part
from manyeyes.world.pretrain.loop import train
from manyeyes.world.pretrain.starts import ASKED, PICTURES, TOLD, StartObjective

STEPS = 1300
"""Every arm's budget: the same steps over the same pictures, whatever time an arm takes."""

MEASURED = 200
"""Held-out pictures that the card's figures are measured on."""

_SUMMARY = (
    "Fusion and bridge of `{recipe}`, trained before frozen encoders and the frozen language model "
    "of the world. It is what published projectors are to real recipes, and a shortcut that real "
    f"data do not have: {TOLD} pictures of each step are told as layouts, so every visual token "
    f"or prompt learns what lies in its cell. From step {{aligned}} on, {ASKED} pictures a step "
    "are asked questions too. Every arm gets the same pictures, questions and steps."
)


def pretrain_start(
    arm: str,
    out_dir: Path,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    start: Path | None = None,
    measured: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Card:
    """Train the start of ``arm`` (a key of ``ARMS``) and write it to ``out_dir / starts / arm``.

    Raises:
        UsageError: a part to start from was given, or an unclear budget.
        CheckpointError: nothing to resume.
    """
    if start is not None:
        raise UsageError("a start begins with the parts that ship: it takes no other weights")
    folder = out_dir / "starts" / arm
    check_part(f"starts/{arm}", folder)
    torch.set_num_threads(threads)
    objective = StartObjective(ARMS[arm], seed)
    if steps is None and seconds is None:
        steps = STEPS
    state = train(
        objective,
        out_dir / "starts" / f"{arm}.run",
        steps=steps,
        seconds=seconds,
        resume=resume,
        progress=progress,
    )
    return finish_part(
        f"starts/{arm}",
        objective,
        state,
        folder,
        threads,
        summary=_SUMMARY.format(recipe=ARMS[arm].recipe, aligned=objective.aligned),
        data=f"{PICTURES} world scenes of split train",
        measure=lambda _: {
            "replies about held-out pictures": objective.figures(measured or MEASURED)
        },
        seen={"images per step": objective.images_per_step},
        last=state.figures,
    )
