"""Optimizer state by parameter name, whole, whatever the parallelism.

DDP, FSDP2 and a single process write the same file and read each other's, so a run can continue on
another number of processes.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from manyeyes.errors import CheckpointError
from manyeyes.training.saving.resume_state import ADVICE

OPTIMIZER_FILE, SCHEDULER_FILE = "optimizer.pt", "scheduler.pt"


Prepare = Callable[[dict[str, Any]], dict[str, Any]]


def gather_optimizer(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return the whole optimizer state keyed by parameter name; every rank must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(model, optimizer, options=options)


def restore_optimizer(
    model: nn.Module, optimizer: Optimizer, folder: Path, prepare: Prepare = lambda state: state
) -> None:
    """Load the state that ``gather_optimizer`` returned, sharding it as ``model`` is sharded.

    ``prepare`` gives it the form that the parameters have in this run.

    Raises:
        CheckpointError: missing, damaged, or of other parameters.
    """
    path = folder / OPTIMIZER_FILE
    state = read_state(path)
    # parameters that never had a gradient have no state, hence not strict
    options = StateDictOptions(full_state_dict=True, strict=False)
    with _naming_damage(path):
        state = prepare(state)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        for name, moments in state["state"].items():
            for key, value in moments.items():
                _check_moment(f"{key} of {name}", value, shapes.get(name))
        set_optimizer_state_dict(model, optimizer, state, options=options)


def restore_scheduler(scheduler: LRScheduler, folder: Path) -> None:
    """Load the schedule of the learning rate.

    Raises:
        CheckpointError: missing, or damaged.
    """
    path = folder / SCHEDULER_FILE
    state = read_state(path)
    with _naming_damage(path):
        lacking = sorted(scheduler.state_dict().keys() - state.keys())
        if lacking:
            raise ValueError(f"no {lacking[0]!r} in it")
        if not isinstance(state["last_epoch"], int) or state["last_epoch"] < 0:
            raise ValueError(f"last_epoch is {state['last_epoch']!r}")
        scheduler.load_state_dict(state)


def read_state(path: Path) -> Any:
    """Read a state file (tensors and plain data only), and compare it with its checksums.

    Raises:
        CheckpointError: missing or damaged.
    """
    with _naming_damage(path):
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()  # torch does not look at them
        if damaged is not None:
            raise ValueError(f"{damaged} is not what its checksum says")
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_moment(what: str, value: Any, shape: torch.Size | None) -> None:
    if not isinstance(value, Tensor):
        return
    if value.ndim and shape is not None and value.shape != shape:
        raise ValueError(f"{what} has shape {tuple(value.shape)}, not {tuple(shape)}")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{what} is not finite")


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turn whatever damaged bytes lead to into an error that names the file."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # unpickling raises nearly everything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{path}: missing or damaged ({reason}); {ADVICE}") from error
