"""The processes of a run: joined once, before the first of them looks at the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed
from transformers import TrainingArguments

from manyeyes.errors import RecipeError
from manyeyes.recipes import StageRecipe
from manyeyes.training.arguments import world_size


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
