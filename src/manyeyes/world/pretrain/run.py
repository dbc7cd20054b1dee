"""``pretrain``: train one of the shipped parts, by name.

To add a part: write its objective, enter its recipe in ``vision_parts`` or ``language_parts``,
train it, and add its line to ``catalog.PARTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from manyeyes.checkpoints.light import is_weights
from manyeyes.errors import UsageError, nearest
from manyeyes.files import held, written_folder
from manyeyes.model.precision import CPU, computed_in
from manyeyes.world.pretrain.cards import (
    Card,
    check_part,
    stored_parameters,
    weight_files,
    write_card,
)
from manyeyes.world.pretrain.language_parts import TEXT
from manyeyes.world.pretrain.loop import PartObjective, RunState, train
from manyeyes.world.pretrain.recipe import PartRecipe
from manyeyes.world.pretrain.start_parts import STARTS
from manyeyes.world.pretrain.vision_parts import VISION

RECIPES: dict[str, PartRecipe] = {**dict(sorted({**VISION, **TEXT}.items())), **STARTS}
"""Every trainable part; starts come last, as they need the other parts."""


def pretrain(
    part: str,
    out_dir: Path,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    start: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Card:
    """Train ``part`` and write it, measured and with its card, to ``out_dir / part``.

    The budget is ``steps`` or ``seconds``; without either the part's own. The run's state is kept
    in ``out_dir / (part + ".run")``, from which ``resume`` continues. A new run with ``start``
    starts from the trained part in that folder: a language model from an earlier one, dinov2 from a
    masked autoencoder.

    Raises:
        UsageError: an unknown part, an unclear budget, or a part that starts from nothing.
        InUseError: another process trains this part there.
        CheckpointError: nothing to start from or to resume, or a part that does not fit.
        NonFiniteError: before a bad step.
    """
    recipe = find_recipe(part)
    if steps is None and seconds is None:
        steps = recipe.steps
        seconds = None if recipe.minutes is None else 60.0 * recipe.minutes
    with held(out_dir / part, beside=True):
        check_part(part, out_dir / part)
        torch.set_num_threads(threads)
        run_dir = out_dir / f"{part}.run"
        objective = recipe.objective(seed, run_dir)
        if start is not None and not resume:
            objective.start_from(start)
        state = train(
            objective, run_dir, steps=steps, seconds=seconds, resume=resume, progress=progress
        )
        said = {} if start is None else {"weights at the start": start.name}
        return _write(part, recipe, objective, state, out_dir / part, said, threads)


def find_recipe(part: str) -> PartRecipe:
    """Return the recipe of ``part``; raise ``UsageError`` with the nearest name when unknown."""
    if part not in RECIPES:
        known = ", ".join(RECIPES)
        hint = nearest(part, RECIPES)
        raise UsageError(f"no recipe to pretrain {part!r}: expected one of {known}{hint}")
    return RECIPES[part]


def _write(
    part: str,
    recipe: PartRecipe,
    objective: PartObjective,
    state: RunState,
    folder: Path,
    said: Mapping[str, Any],
    threads: int,
) -> Card:
    """Export a trained objective to ``folder``, measure the files written, write the card."""
    with written_folder(folder, ours=is_weights) as aside:
        objective.export(aside)
        card = Card(
            part=part,
            summary=recipe.summary,
            parameters=stored_parameters(aside),
            training={
                "data": recipe.data,
                "seed": objective.seed,
                "steps": state.step,
                **objective.seen(state.step),
                **said,
                "learning rate": objective.learning_rate,
                "seconds": round(state.seconds, 1),
                "threads": threads,
                "precision": f"{computed_in(CPU)}, weights saved in bf16",
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                **{f"final {name}": value for name, value in state.figures.items()},
            },
            files=weight_files(aside),
            figures=recipe.measure(objective, aside),
        )
        write_card(card, aside)
    return card
