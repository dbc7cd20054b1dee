"""Model weights between stages and processes: whole tensors out of shards, renamed tensors in."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from manyeyes.checkpoint import read_weights
from manyeyes.errors import CheckpointError
from manyeyes.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import WeightSource


def whole_state(model: ManyEyesForConditionalGeneration) -> dict[str, Tensor]:
    """Return the model's state for a light checkpoint; every rank must call it.

    Sharded tensors that the checkpoint holds are put together on the CPU; the others, which their
    part's reference stands for, stay as they are.
    """
    return {
        name: tensor.full_tensor().cpu()
        if isinstance(tensor, DTensor) and model.is_stored(name)
        else tensor
        for name, tensor in model.state_dict().items()
    }


def take_weights(
    model: ManyEyesForConditionalGeneration, folder: Path, source: WeightSource
) -> list[str]:
    """Copy stored tensors of ``folder`` into ``model`` as ``source`` says; return their new names.

    Raises:
        CheckpointError: a tensor that the model lacks or that has another shape, or none at all.
    """
    stored = read_weights(folder)
    chosen = {
        renamed(name, source.rename): tensor
        for name, tensor in stored.items()
        if not source.only or any(fnmatchcase(name, pattern) for pattern in source.only)
    }
    if not chosen:
        raise CheckpointError(f"{folder}: no stored tensor matches {', '.join(source.only)}")
    own = model.state_dict()
    for name, tensor in chosen.items():
        if name not in own:
            raise CheckpointError(f"{folder}: the model has no parameter {name!r}")
        if own[name].shape != tensor.shape:
            raise CheckpointError(
                f"{folder}: {name!r} is {tuple(tensor.shape)} there, but {tuple(own[name].shape)} "
                "in this model"
            )
    with torch.no_grad():
        for name, tensor in chosen.items():
            own[name].copy_(tensor)
    model.mark_trained(chosen)
    return sorted(chosen)


def renamed(name: str, rename: Mapping[str, str]) -> str:
    """Return ``name`` with its first matching prefix exchanged."""
    for old, new in rename.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
