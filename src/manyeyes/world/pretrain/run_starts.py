"""``pretrain_start``: train one arm's start and write its folder and card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from manyeyes.errors import UsageError
from manyeyes.precision import CPU, computed_in
from manyeyes.world.pretrain.cards import Card, stored_parameters, weight_files, write_card
from manyeyes.world.pretrain.loop import train
from manyeyes.world.pretrain.starts import ARMS, ASKED, StartObjective

STEPS = 500
"""Every arm's budget: the same steps over the same pictures, whatever time an arm takes."""

MEASURED = 200
"""Held-out pictures that the card's figures are measured on."""

_SUMMARY = (
    "Fusion and bridge of `{recipe}`, trained before frozen encoders and the frozen language model "
    "of the world. It is what published projectors are to real recipes, and a shortcut that real "
    "data do not have: {told} of the {all} pictures of each step are told as layouts, so every "
    "visual token learns what lies in its cell; the other {asked} are asked questions. Every arm "
    "gets the same pictures, questions and steps."
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
    folder = out_dir / "starts" / arm
    if folder.exists():
        shutil.rmtree(folder)
    objective.export(folder)
    pictures = objective.images_per_step
    card = Card(
        part=f"starts/{arm}",
        summary=_SUMMARY.format(recipe=ARMS[arm], told=pictures - ASKED, all=pictures, asked=ASKED),
        parameters=stored_parameters(folder),
        training={
            "data": "world scenes of split train, rendered on the fly",
            "seed": seed,
            "steps": state.step,
            "images per step": pictures,
            "learning rate": objective.learning_rate,
            "seconds": round(state.seconds, 1),
            "threads": threads,
            "precision": f"{computed_in(CPU)}, weights saved in bf16",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            **{f"final {name}": value for name, value in state.figures.items()},
        },
        files=weight_files(folder),
        figures={"replies about held-out pictures": objective.figures(measured or MEASURED)},
    )
    write_card(card, folder)
    return card
