"""FSDP2 through accelerate, on accelerators and on CPU processes alike."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PreTrainedModel, TrainingArguments

_COMPUTE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def forget_stage() -> None:
    """Drop what accelerate remembers of an earlier stage; call before building TrainingArguments.

    Its state is one per process: it would refuse, or silently override, the next stage's precision
    and sharding. The process group stays.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_USE_FSDP", None)


def use_fsdp(accelerator: Accelerator, args: TrainingArguments) -> None:
    """Make ``accelerator`` shard as ``args.fsdp`` asks, gradients being reduced in float32.

    accelerate (1.15) ignores its FSDP plugin when the processes have no accelerator and would train
    with DDP instead; ``fully_shard`` itself works there.
    """
    state = accelerator.state
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**(args.fsdp_plugin_args or {}))
        # accelerate copies the process state over its own whenever it looks at either
        state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    if state.mixed_precision in _COMPUTE:
        state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=_COMPUTE[state.mixed_precision], reduce_dtype=torch.float32
        )


def name_blocks(model: PreTrainedModel) -> None:
    """Keep those of the model's block classes that occur in it; each block becomes one shard unit.

    Families list blocks of their whole architecture, text towers included, and accelerate refuses
    names that it cannot find.
    """
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = sorted(present & set(model._no_split_modules or ()))
