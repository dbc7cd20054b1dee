"""The memory of one training process: weights, gradients, optimizer, and what a step holds.

Activations are counted by running the step on tensors without memory (``tracing``). With several
GPUs each holds all of it, as DDP does, or a shard, as FSDP2 does (``training.sharding``): of the
weights and gradients of the language model's blocks, of the optimizer, of all else between steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from manyeyes.encoders import DetectorEncoder
from manyeyes.recipes import Recipe, StageRecipe
from manyeyes.recipes.training_fields import on_this_machine
from manyeyes.study.costs.depth import trace_deep
from manyeyes.study.costs.fakes import LOOKS_AT_NUMBERS
from manyeyes.study.costs.optimizers import DEFAULT, optimizer_bytes, working_bytes
from manyeyes.study.costs.tracing import Step, Traced, trace_step
from manyeyes.training.arguments import micro_batch
from manyeyes.training.packing import packs
from manyeyes.training.quantization import BITS, quantizable
from manyeyes.training.sharding import block_classes
from manyeyes.training.trainable import Assignment

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Memory:
    """Bytes of one training process.

    ``activations``: the most that a step holds besides. ``gathered``: whole weights and gradients
    that a process has beside its shards while it computes. ``total``: the highest moment, which is
    less than the sum where the step has freed activations before all gradients are there.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    gathered: int
    total: int


class Counting:
    """Counts the memory of one stage. ``traced`` remembers steps that several stages share."""

    def __init__(
        self,
        recipe: Recipe,
        stage: StageRecipe,
        model: Any,
        assignment: Assignment,
        traced: dict[Any, Traced],
    ) -> None:
        self.stage, self.model, self.assignment, self.traced = stage, model, assignment, traced
        self.training = on_this_machine(stage.training)
        self.half = bool(self.training.get("bf16") or self.training.get("fp16"))
        self.frozen = DTYPES[recipe.dtype]
        self.attention = "eager" if recipe.attention == "eager" else None
        self.optimizer = str(self.training.get("optim", DEFAULT))
        quantized = quantizable(model, recipe.quantization)
        self.four_bits = {f"{name}.weight" for name, _ in quantized}
        self.parameters = dict(model.named_parameters())
        self.learning = [p for n, p in self.parameters.items() if assignment[n] is not None]
        self.in_blocks = _in_blocks(model)
        self.float32_only = tuple(
            f"encoders.{name}."
            for name, encoder in model.encoders.items()
            if isinstance(encoder, DetectorEncoder) and encoder.float32_only
        )

    def memory(self, gpus: int = 1, *, sharded: bool = False) -> Memory:
        """Return the memory of one of ``gpus`` processes."""
        shards = gpus if sharded else 1
        learns = 4 * sum(p.numel() for p in self.learning)
        buckets = learns if gpus > shards else 0  # DDP reduces gradients in copies of them
        shapes = [p.shape for p in self.learning]
        weights = self._weights(self.parameters) // shards
        optimizer = optimizer_bytes(self.optimizer, shapes) // shards
        gathered = self._gathered() if shards > 1 else buckets
        traced = self._trace(sharded=shards > 1)
        widest = self._widest_quantized()
        whole = traced.activations + learns // shards
        step = whole if self._accumulates(gpus) else traced.peak(1 / shards)
        working = learns // shards + working_bytes(self.optimizer, shapes) // shards
        held = max(step + widest + (gathered if shards > 1 else 0), working)
        return Memory(
            weights=weights,
            gradients=learns // shards,
            optimizer=optimizer,
            activations=traced.activations + widest,
            gathered=gathered,
            total=weights + optimizer + buckets + held,
        )

    def dtype(self, name: str, tensor: Tensor) -> torch.dtype:
        """Return what the trainer holds a weight or buffer in while it computes."""
        if self.assignment.get(name) is not None or name.startswith(self.float32_only or ("\0",)):
            return torch.float32
        if name in self.four_bits:
            return torch.bfloat16 if self.half else torch.float32
        loaded = name.startswith(("encoders.", "language_model."))
        return self.frozen if loaded else torch.float32

    def _trace(self, *, sharded: bool) -> Traced:
        step = Step(
            samples=micro_batch(self.stage),
            half=self.half,
            recompute=recomputes(self.training),
            packing=packs(self.stage, self.model.config),
            attention=self.attention,
            sharded=sharded,
        )
        learning = frozenset(n for n, said in self.assignment.items() if said is not None)
        stage = self.stage
        key = id(self.model), step, tuple(stage.objectives), stage.cache_features, learning
        if key not in self.traced:
            try:
                self.traced[key] = self._run(step, stage)
            except LOOKS_AT_NUMBERS:  # as some frozen encoders do: count what they give alone
                stored = stage.model_copy(update={"cache_features": True})
                self.traced[key] = self._run(step, stored)
        return self.traced[key]

    def _run(self, step: Step, stage: StageRecipe) -> Traced:
        dtype = self._gathered_dtype if step.sharded else self.dtype
        shared = self.in_blocks if step.sharded else frozenset[str]()
        trace = partial(trace_step, self.model, stage, step, self.assignment, dtype, shared=shared)
        return trace_deep(self.model, self.assignment, trace)

    def _gathered_dtype(self, name: str, tensor: Tensor) -> torch.dtype:
        """What FSDP2 computes in: blocks are gathered in half precision."""
        half = self.half and name in self.in_blocks
        return torch.bfloat16 if half else self.dtype(name, tensor)

    def _weights(self, parameters: Mapping[str, Tensor]) -> int:
        """Bytes of weights as they are stored."""
        packed = sum(p.numel() for n, p in parameters.items() if n in self.four_bits)
        whole = {n: p for n, p in parameters.items() if n not in self.four_bits}
        stored = sum(p.numel() * self.dtype(n, p).itemsize for n, p in whole.items())
        return stored + int(packed * BITS / 8)

    def _gathered(self) -> int:
        """Bytes of whole weights beside the shards.

        All but the blocks is one unit, gathered as it is stored; of the blocks one computes while
        the next one is fetched, and one gradient is whole until it is reduced in float32.
        """
        root = {n: p for n, p in self.parameters.items() if n not in self.in_blocks}
        sizes: list[tuple[int, int]] = []
        for prefix, block in _blocks(self.model):
            own = {f"{prefix}.{name}": p for name, p in block.named_parameters()}
            held = sum(p.numel() * self._gathered_dtype(n, p).itemsize for n, p in own.items())
            learns = sum(p.numel() for n, p in own.items() if self.assignment[n] is not None)
            sizes.append((held, 4 * learns))
        most = max(sizes, default=(0, 0))
        return self._weights(root) + 2 * most[0] + most[1]

    def _widest_quantized(self) -> int:
        """Bytes of the largest four-bit weight, which is unpacked whenever it is used."""
        size = 2 if self.half else 4
        return max((size * self.parameters[n].numel() for n in self.four_bits), default=0)

    def _accumulates(self, gpus: int) -> bool:
        """Whether gradients of earlier micro-batches are there when a micro-batch begins."""
        total, micro = self.stage.global_batch_size, micro_batch(self.stage)
        if total is None:
            return int(self.training.get("gradient_accumulation_steps", 1)) > 1
        return total > micro * gpus


def recomputes(training: Mapping[str, Any]) -> bool:
    """Return whether a stage checkpoints activations."""
    names = ("activation_checkpointing", "gradient_checkpointing")
    return any(bool(training.get(name)) for name in names)


def _blocks(model: Any) -> Sequence[tuple[str, nn.Module]]:
    """The language model's blocks, by their names in ``model``."""
    kinds: Collection[str] = block_classes(model)
    named = model.language_model.named_modules(prefix="language_model")
    return [(name, module) for name, module in named if type(module).__name__ in kinds]


def _in_blocks(model: Any) -> frozenset[str]:
    """Names of the parameters of the language model's blocks."""
    return frozenset(
        f"{prefix}.{name}"
        for prefix, block in _blocks(model)
        for name, _ in block.named_parameters()
    )
