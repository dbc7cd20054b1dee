"""FSDP2 through accelerate, on accelerators and on CPU processes alike.

Under mixed precision a sharded run computes as one process does: under autocast, with states
between layers in float32. Only the language model's blocks are gathered in half precision.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
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
        # blocks get the residual stream as it is; autocast casts for each product
        state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=_COMPUTE[state.mixed_precision],
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        )


def name_blocks(model: PreTrainedModel) -> None:
    """Make each block of the language model a shard unit; all else is one, the root.

    Processes gather a unit's weights together, whenever its module is called. So a unit must be
    called alike in every process, whatever its batch holds: every batch passes the language model,
    but encoders and what reads their features only where there is an image or stored features.
    """
    model._no_split_modules = block_classes(model)


def block_classes(model: PreTrainedModel) -> list[str]:
    """Return the class names of the language model's blocks."""
    language = cast(nn.Module, model.language_model)
    present = {type(module).__name__ for module in language.modules()}
    return sorted(present & set(model._no_split_modules or ()))


def hold_scalars_as_vectors(model: nn.Module) -> frozenset[str]:
    """Give every parameter without dimensions one, and return their names.

    FSDP2 splits along the first dimension and refuses a parameter without any. A vector of one acts
    alike; checkpoints keep the scalar, see ``scalars_again``.
    """
    found = [(name, p) for name, p in model.named_parameters() if p.ndim == 0]
    for _, parameter in found:
        parameter.data = parameter.data.reshape(1)
    return frozenset(name for name, _ in found)


def scalars_again(state: Mapping[str, Tensor], scalars: Collection[str]) -> dict[str, Tensor]:
    """Return whole tensors by name with those that were scalars as scalars."""
    return {n: t.reshape(()) if n in scalars else t for n, t in state.items()}


def reshaped_moments(
    optimizer: Mapping[str, Any], scalars: Collection[str], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Return a whole optimizer state in which the moments of ``scalars`` have ``shape``.

    It is empty on all processes but the first, and stays so.
    """
    if not scalars or not optimizer:
        return dict(optimizer)
    state = dict(optimizer["state"])
    for name in state.keys() & set(scalars):
        moments = {
            key: value.reshape(shape) if key != "step" and isinstance(value, Tensor) else value
            for key, value in state[name].items()
        }
        state[name] = moments
    return {**optimizer, "state": state}


@contextmanager
def units_of(model: PreTrainedModel) -> Iterator[None]:
    """Let accelerate (1.15) shard ``model`` by what is ours to say about its units.

    Input embedding and head stay with the rest. The embedding is called as often as there are
    texts, those about an image's objects too, so not alike in every process (see ``name_blocks``).
    And PyTorch refuses a weight in two units, which an embedding would be that modules elsewhere
    share, as T5's encoder and decoder do.

    The root's weights are gathered as they are stored: rounded to half precision, those of fusion,
    norms and temperatures would train otherwise than on one process. accelerate knows one policy
    for all units, so it is changed where accelerate calls ``fully_shard``.
    """

    def shard(module: nn.Module, *, mp_policy: MixedPrecisionPolicy, **options: Any) -> Any:
        if module is model or _has_layer_norm_on_cpu(module):
            mp_policy = replace(mp_policy, param_dtype=None)
        return fully_shard(module, mp_policy=mp_policy, **options)

    names = ("get_input_embeddings", "get_output_embeddings")
    model.__dict__.update(dict.fromkeys(names, lambda: None))
    fsdp.fully_shard = cast(Any, shard)
    try:
        yield
    finally:
        fsdp.fully_shard = fully_shard
        for name in names:
            del model.__dict__[name]


def _has_layer_norm_on_cpu(block: nn.Module) -> bool:
    """Whether a layer norm on a CPU is in it, which wants weights as precise as its input is."""
    if next(block.parameters()).device.type != "cpu":
        return False
    return any(isinstance(module, nn.LayerNorm) for module in block.modules())
