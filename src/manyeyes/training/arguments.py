"""From a stage's ``training:`` block to ``transformers.TrainingArguments``."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.utils.import_utils import is_torch_tf32_available

from manyeyes.errors import RecipeError
from manyeyes.recipes import StageRecipe
from manyeyes.recipes.training_fields import on_this_machine
from manyeyes.training.kernels import COMPILE, check_liger

EPOCH = "epoch"


def training_arguments(
    stage: StageRecipe,
    folder: Path,
    *,
    seed: int,
    epoch_length: int,
    find_unused: bool = False,
    trackers: Sequence[str] = (),
) -> TrainingArguments:
    """Return the arguments of ``stage``, writing under ``folder``.

    ``epoch_length``: samples of one epoch; epochs become steps here, because a stage is one pass
    over an endless order. ``find_unused``: some trained parameters may get no gradient, which DDP
    must be told. ``trackers``: integrations besides TensorBoard (wandb, trackio).

    Raises:
        RecipeError: values that TrainingArguments refuses, a global batch that the ranks and
            micro-batches do not divide, or kernels that do not run here.
    """
    fields = on_this_machine(stage.training)
    fields.setdefault("report_to", default_trackers(trackers))
    fields.setdefault("disable_tqdm", not sys.stderr.isatty())
    fields.setdefault("logging_nan_inf_filter", False)
    fields.setdefault("ddp_find_unused_parameters", find_unused)
    fields.setdefault("dataloader_pin_memory", torch.accelerator.is_available())
    # without it several CPU processes would each train alone
    fields.setdefault("use_cpu", not torch.accelerator.is_available())
    if fields.get("bf16") and is_torch_tf32_available():
        fields.setdefault("tf32", True)  # for what autocast leaves in float32
    check_liger(stage)
    for name in COMPILE:
        fields.pop(name, None)
    if fields.get("fsdp") and world_size() == 1:
        raise RecipeError(
            f"stages.{stage.name}.training.fsdp: shards over several processes, but this is one; "
            "start them with torchrun --nproc-per-node N -m manyeyes train ..."
        )
    fields["gradient_accumulation_steps"] = accumulation_steps(stage, world_size())
    _epochs_to_steps(fields, math.ceil(epoch_length / global_batch(stage)))
    try:
        return TrainingArguments(
            output_dir=str(folder), seed=seed, data_seed=seed, remove_unused_columns=False, **fields
        )
    except (ValueError, TypeError, ImportError) as error:
        raise RecipeError(f"stages.{stage.name}.training: {error}") from error


def global_batch(stage: StageRecipe) -> int:
    """Return the samples of one optimizer step, over all processes."""
    ranks = world_size()
    return micro_batch(stage) * accumulation_steps(stage, ranks) * ranks


def accumulation_steps(stage: StageRecipe, ranks: int) -> int:
    """Return the micro-batches per optimizer step, from ``global_batch_size`` where it is given.

    Raises:
        RecipeError: not a whole number of them.
    """
    total, micro = stage.global_batch_size, micro_batch(stage)
    if total is None:
        return int(stage.training.get("gradient_accumulation_steps", 1))
    if total % (micro * ranks):
        raise RecipeError(
            f"stages.{stage.name}.global_batch_size: {total} is not a multiple of "
            f"per_device_train_batch_size x processes = {micro} x {ranks}"
        )
    return total // (micro * ranks)


def world_size() -> int:
    """Return the number of training processes that the launcher (torchrun) started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return this process's number among ``world_size()``."""
    return int(os.environ.get("RANK", "0"))


def default_trackers(extra: Sequence[str]) -> list[str]:
    """Return TensorBoard, when it is installed, and the trackers asked for."""
    installed = importlib.util.find_spec("tensorboard") is not None
    return [*(["tensorboard"] if installed else []), *extra]


def micro_batch(stage: StageRecipe) -> int:
    """Return the samples that one process takes at a time."""
    return int(stage.training.get("per_device_train_batch_size", 8))


def _epochs_to_steps(fields: dict[str, Any], steps_per_epoch: int) -> None:
    if fields.get("max_steps", -1) <= 0:
        fields["max_steps"] = math.ceil(fields.pop("num_train_epochs", 1.0) * steps_per_epoch)
    fields.pop("num_train_epochs", None)
    for action in ("save", "logging"):
        if fields.get(f"{action}_strategy") == EPOCH:
            fields[f"{action}_strategy"] = "steps"
            fields[f"{action}_steps"] = steps_per_epoch
