"""``pretrain``: train one of the shipped parts, by name.

To add a part: write its trainer (see ``run_vision`` or ``run_language``), enter it here, train it,
and add its line to ``catalog.PARTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from manyeyes.errors import UsageError, nearest
from manyeyes.files import held
from manyeyes.world.pretrain.arms import ARMS
from manyeyes.world.pretrain.cards import Card
from manyeyes.world.pretrain.run_language import pretrain_language
from manyeyes.world.pretrain.run_starts import pretrain_start
from manyeyes.world.pretrain.run_vision import pretrain_vision

Trainer = Callable[..., Card]
"""Takes the folder of all parts and the keyword arguments of ``pretrain``."""

RECIPES: dict[str, Trainer] = {
    "clip": partial(pretrain_vision, "clip"),
    "detector": partial(pretrain_vision, "detector"),
    "dinov2": partial(pretrain_vision, "dinov2"),
    "language": partial(pretrain_language, "language"),
    "mae": partial(pretrain_vision, "mae"),
    "t5": partial(pretrain_language, "t5"),
    "tagger": partial(pretrain_vision, "tagger"),
    **{f"starts/{arm}": partial(pretrain_start, arm) for arm in ARMS},
}
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
    trainer = find_recipe(part)
    with held(out_dir / part, beside=True):
        return trainer(
            out_dir,
            seconds=seconds,
            steps=steps,
            seed=seed,
            threads=threads,
            resume=resume,
            start=start,
            progress=progress,
        )


def find_recipe(part: str) -> Trainer:
    """Return the trainer of ``part``; raise ``UsageError`` with the nearest name when unknown."""
    if part not in RECIPES:
        known = ", ".join(RECIPES)
        hint = nearest(part, RECIPES)
        raise UsageError(f"no recipe to pretrain {part!r}: expected one of {known}{hint}")
    return RECIPES[part]
