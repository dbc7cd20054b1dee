"""The processes of a run: joined once, before the first of them looks at the run folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed
from transformers import TrainingArguments

from manyeyes.errors import InUseError, ManyEyesError, RecipeError
from manyeyes.files import held
from manyeyes.recipes import StageRecipe
from manyeyes.training.arguments import rank, world_size

logger = logging.getLogger(__name__)

_TURN_SECONDS = 30.0
"""How long the first process waits for a folder before all of them hear how it stands."""


def join_ranks(stages: Sequence[StageRecipe]) -> None:
    """Start the process group of a run over ``stages``; nothing to do in a single process.

    Raises:
        RecipeError: the stages ask for different backends.
    """
    if world_size() > 1:
        PartialState(**group_options(stages))


def group_options(stages: Sequence[StageRecipe]) -> dict[str, Any]:
    """Return how to start the process group that all ``stages`` share.

    Waiting is allowed as long as the most patient stage allows (``ddp_timeout``, seconds); an
    accelerator is left alone where every stage says ``use_cpu``.

    Raises:
        RecipeError: the stages ask for different backends.
    """
    default = TrainingArguments.__dataclass_fields__["ddp_timeout"].default
    seconds = max(spec.training.get("ddp_timeout", default) for spec in stages)
    backends = {spec.training.get("ddp_backend") for spec in stages}
    if len(backends) > 1:
        named = ", ".join(f"{spec.name}: {spec.training.get('ddp_backend')}" for spec in stages)
        raise RecipeError(
            f"training.ddp_backend: all stages share one process group, but they name different "
            f"backends ({named}); give the same to all"
        )
    alone = all(spec.training.get("use_cpu") for spec in stages)
    return {
        "cpu": alone or not torch.accelerator.is_available(),
        "backend": backends.pop(),
        "timeout": timedelta(seconds=seconds),
    }


def wait_for_ranks() -> None:
    """Wait until every process of the run is here."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


@contextmanager
def held_by_run(folder: Path, *, waits: bool = False) -> Iterator[None]:
    """Hold ``folder`` for all processes of the run, each of which must call it (`files.held`).

    Raises:
        InUseError: another program holds it, unless the run ``waits`` until that ends.
        WriteError: the first process can make no file there.
    """
    with ExitStack() as stack:
        told = False
        while (refusal := _first_holds(stack, folder, _TURN_SECONDS if waits else 0.0)) is not None:
            if not (waits and isinstance(refusal, InUseError)):
                raise refusal
            if not told:
                logger.info("waiting: %s", refusal)
                told = True
        yield


def _first_holds(stack: ExitStack, folder: Path, seconds: float) -> ManyEyesError | None:
    """Let the first process try to hold ``folder``; every process gets what kept it from that."""
    refusal: ManyEyesError | None = None
    if rank() == 0:
        try:
            stack.enter_context(held(folder, seconds=seconds))
        except ManyEyesError as error:
            refusal = error
    if world_size() == 1:
        return refusal
    shared = [None if refusal is None else (isinstance(refusal, InUseError), str(refusal))]
    distributed.broadcast_object_list(shared)
    if refusal is not None or shared[0] is None:
        return refusal
    in_use, message = shared[0]
    return InUseError(message) if in_use else ManyEyesError(message)
