"""Model weights between stages and processes: whole tensors out of shards, renamed tensors in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from manyeyes.checkpoints.light import CHANGED, missing_changes, read_weights
from manyeyes.checkpoints.weight_checks import check_names
from manyeyes.checkpoints.weight_names import missing_names, our_name, our_tensors
from manyeyes.errors import CheckpointError
from manyeyes.layers.adapters.lora import is_lora, live_names, plain_name
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.lora import add_lora, parse_lora
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import WeightSource


def whole_state(model: ManyEyesForConditionalGeneration) -> dict[str, Tensor]:
    """Return the model's state for a light checkpoint; every rank must call it.

    Sharded tensors that the checkpoint holds are put together on the CPU; the others, which their
    part's reference stands for, stay as they are.
    """
    state = model.state_dict()
    stored = model.stored_names(state)
    return {
        name: tensor.full_tensor().cpu()
        if isinstance(tensor, DTensor) and name in stored
        else tensor
        for name, tensor in state.items()
    }


def take_weights(
    model: ManyEyesForConditionalGeneration, folder: Path, source: WeightSource
) -> list[str]:
    """Copy stored tensors of ``folder`` into ``model`` as ``source`` says; return their new names.

    What only some options of the model's fusion have (``Fusion.partial``) may be missing there.
    Parts of which the folder holds LoRA get the same LoRA.

    Raises:
        CheckpointError: a tensor that the model lacks, that has another shape or is no number, one
            that should be in the folder and is not, or none at all.
    """
    stored = _read(folder, source.format)
    if source.format == "manyeyes":
        _check_folder(folder, type(model), stored)
    else:
        check_names(str(folder), missing_names(stored, model.state_dict(), source.format))
    chosen = {
        renamed(name, source.rename): tensor
        for name, tensor in stored.items()
        if not source.only or any(fnmatchcase(name, pattern) for pattern in source.only)
    }
    if not chosen:
        raise CheckpointError(f"{folder}: no stored tensor matches {', '.join(source.only)}")
    if source.format == "manyeyes":
        _put_lora(model, folder, chosen)
    own = model.state_dict()
    here = live_names(own)
    chosen = {here.get(plain_name(name), name): tensor for name, tensor in chosen.items()}
    partial = [f"fusion.{pattern}" for pattern in model.fusion.partial]
    for name, tensor in list(chosen.items()):
        if name not in own and any(fnmatchcase(name, pattern) for pattern in partial):
            del chosen[name]
        elif name not in own:
            raise CheckpointError(f"{folder}: the model has no parameter {name!r}")
        elif own[name].shape != tensor.shape:
            raise CheckpointError(
                f"{folder}: {name!r} is {tuple(tensor.shape)} there, but {tuple(own[name].shape)} "
                "in this model"
            )
    with torch.no_grad():
        for name, tensor in chosen.items():
            own[name].copy_(tensor)
    model.mark_trained(chosen)
    return sorted(chosen)


def _put_lora(
    model: ManyEyesForConditionalGeneration, folder: Path, chosen: Collection[str]
) -> None:
    """Give ``model`` the LoRA of which ``chosen`` tensors of ``folder`` are."""
    if not (folder / "config.json").is_file():
        return
    for part, said in ManyEyesConfig.from_pretrained(folder).lora.items():
        if part not in model.config.lora and any(
            is_lora(name) and name.startswith(f"{part}.") for name in chosen
        ):
            add_lora(model, part, parse_lora(part, said), where=f"{folder}: lora.{part}")


def _read(folder: Path, format: str) -> dict[str, Tensor]:
    """Return stored tensors by our names.

    Raises:
        CheckpointError: nothing in the folder is known in this format.
    """
    if format == "manyeyes":
        return read_weights(folder)
    tensors = read_weights(folder, lambda name: our_name(name, format) is not None)
    if not tensors:
        raise CheckpointError(f"{folder}: holds no tensor that format {format!r} knows")
    return our_tensors(tensors, format)


def _check_folder(
    folder: Path, model_class: type[ManyEyesForConditionalGeneration], stored: Collection[str]
) -> None:
    """Check that a model's folder holds all that its own configuration asks for.

    Raises:
        CheckpointError: a tensor is missing.
    """
    if not (folder / "config.json").is_file():
        return  # converted from elsewhere
    config = ManyEyesConfig.from_pretrained(folder)
    with torch.device("meta"):
        skeleton = model_class(config)
    ties = skeleton.get_expanded_tied_weights_keys(all_submodels=True)
    referenced = tuple(f"{part}." for part in config.references)
    own = [name for name in skeleton.state_dict() if not name.startswith(referenced)]
    wanted = {**config.references, "": {CHANGED: own}}
    check_names(str(folder), missing_changes(wanted, stored, ties))


def renamed(name: str, rename: Mapping[str, str]) -> str:
    """Return ``name`` with its first matching prefix exchanged."""
    for old, new in rename.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
