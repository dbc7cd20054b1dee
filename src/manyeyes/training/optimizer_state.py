"""Optimizer state by parameter name, whole, whatever the parallelism.

DDP, FSDP2 and a single process write the same file and read each other's, so a run can continue on
another number of processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from manyeyes.errors import CheckpointError

OPTIMIZER_FILE, SCHEDULER_FILE = "optimizer.pt", "scheduler.pt"


def gather_optimizer(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return the whole optimizer state keyed by parameter name; every rank must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(model, optimizer, options=options)


def restore_optimizer(model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state that ``gather_optimizer`` returned, sharding it as ``model`` is sharded."""
    # parameters that never had a gradient have no state, hence not strict
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_optimizer_state_dict(model, optimizer, state, options=options)


def read_state(path: Path) -> Any:
    """Read a state file (tensors and plain data only).

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: cannot read training state ({error})") from error
