"""What one training stage costs in memory and arithmetic: estimates, and how they are computed.

Source: ours, after Korthikanti et al. 2022 (activations per transformer block) and Kaplan et al.
2020 (2 floating-point operations per parameter and token).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from manyeyes.encoders import ENCODERS, EncoderCost
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.recipes import Recipe, StageRecipe
from manyeyes.recipes.training_fields import on_this_machine
from manyeyes.training.quantization import BITS, quantizable
from manyeyes.training.trainable import Assignment

TEXT_TOKENS = 128
ANSWER_TOKENS = 32
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ACTIVATION_BYTES = 34
"""Bytes kept per token and hidden unit of one transformer block in half precision."""
_OPTIMIZER_BYTES = {"adam": 8, "sgd": 4, "adafactor": 1, "lion": 4, "rmsprop": 4, "adagrad": 4}

ASSUMPTIONS = (
    f"one image and {TEXT_TOKENS} text tokens per sample, {ANSWER_TOKENS} of them supervised",
    f"weights: what learns in float32, the rest in the named dtype, nf4 in {BITS:.3g} bits",
    "gradients: float32; optimizer: 8 bytes per learning parameter (AdamW)",
    f"activations: {_ACTIVATION_BYTES} bytes x tokens x width per block in half precision, twice "
    "that in float32, attention scores not stored; with activation checkpointing one block in full "
    "and the input of every other; frozen encoders keep none",
    "one process; DDP keeps the same on each, FSDP2 divides weights, gradients and optimizer",
    "operations: 2 per parameter and token forward; backward once more for what gradients pass "
    "through and once more for what learns; one more forward with activation checkpointing",
    "frozen encoders: forward only; nothing where their features are stored (cache_features)",
    "seconds per step: operations / rate of matrix products measured here: a lower bound",
)


@dataclass(frozen=True)
class Memory:
    """Estimated bytes of one training process."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class StageCost:
    """What one stage costs: ``memory`` by dtype of the frozen parts, operations, seconds."""

    name: str
    steps: int | None
    batch_per_process: int
    samples_per_step: int
    tokens_per_sample: int
    compute_dtype: str
    memory: Mapping[str, Memory]
    operations_per_step: float
    seconds_per_step: float


def measure_rate(dtype: torch.dtype, *, side: int = 1024, seconds: float = 0.1) -> float:
    """Return floating-point operations per second of square matrix products on this machine.

    ``side`` of the matrices is smaller where the machine has no instructions for ``dtype`` and one
    product would take longer than ``seconds``.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator:
        return _rate(dtype, 4 * side, seconds, accelerator, group=16)  # Python must not hold it up
    tried = side // 4
    while tried < side and _rate(dtype, tried, 0.0) * seconds > 2.0 * (2 * tried) ** 3:
        tried *= 2
    return _rate(dtype, max(tried, 1), seconds)


def _rate(
    dtype: torch.dtype,
    side: int,
    seconds: float,
    device: torch.device | None = None,
    *,
    group: int = 1,
) -> float:
    """Operations per second over at least ``seconds``, and at least ``group`` products."""
    x = torch.ones(side, side, dtype=dtype, device=device or torch.device("cpu"))
    (x @ x).sum().item()
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        products = [x @ x for _ in range(group)]
        products[-1].sum().item()  # waits for all of them
        done += group
    return 2.0 * side**3 * done / (time.perf_counter() - start)


def stage_cost(
    recipe: Recipe,
    stage: StageRecipe,
    config: ManyEyesConfig,
    model: nn.Module,
    assignment: Assignment,
    rate: Mapping[torch.dtype, float],
) -> StageCost:
    """Return what ``stage`` costs with the model that ``config`` describes.

    ``model`` may be on the meta device; ``rate``: operations per second by dtype of computing.
    """
    training = on_this_machine(stage.training)
    batch = int(training.get("per_device_train_batch_size", 8))
    half = bool(training.get("bf16") or training.get("fp16"))
    steps = int(training.get("max_steps", -1))
    accumulation = int(training.get("gradient_accumulation_steps", 1))
    samples = stage.global_batch_size or batch * accumulation
    shape = _Shape(config, model, assignment, stage, recipe)
    operations = shape.operations_per_sample() * samples
    compute = torch.bfloat16 if half else torch.float32
    return StageCost(
        name=stage.name,
        steps=steps if steps > 0 else None,
        batch_per_process=batch,
        samples_per_step=samples,
        tokens_per_sample=shape.tokens,
        compute_dtype="bfloat16" if half else "float32",
        memory={
            dtype: shape.memory(batch, dtype, half or dtype != "float32", _per_weight(training))
            for dtype in dict.fromkeys((recipe.dtype, "float32", "bfloat16"))
        },
        operations_per_step=operations,
        seconds_per_step=operations / rate[compute],
    )


def _checkpoints(training: Mapping[str, Any]) -> bool:
    names = ("activation_checkpointing", "gradient_checkpointing")
    return any(bool(training.get(name)) for name in names)


def _per_weight(training: Mapping[str, Any]) -> int:
    """Return the bytes of optimizer state per learning parameter."""
    name = str(training.get("optim", "adamw"))
    return next((size for key, size in _OPTIMIZER_BYTES.items() if key in name), 8)


class _Shape:
    """The sizes that memory and arithmetic depend on, for one stage."""

    def __init__(
        self,
        config: ManyEyesConfig,
        model: nn.Module,
        assignment: Assignment,
        stage: StageRecipe,
        recipe: Recipe,
    ) -> None:
        self.config, self.cached = config, stage.cache_features
        self.recompute = _checkpoints(stage.training)
        self.objectives = set(stage.objectives)
        quantized = quantizable(model, recipe.quantization)
        self.four_bits = {f"{name}.weight" for name, _ in quantized}
        self.sizes = {name: p.numel() for name, p in model.named_parameters()}
        self.learning = {name for name in self.sizes if assignment[name] is not None}
        text: Any = config.text_config
        self.width, self.blocks = int(text.hidden_size), int(text.num_hidden_layers)
        self.vocabulary = int(text.vocab_size)
        self.tokens = config.visual_tokens + 2 + TEXT_TOKENS

    def memory(self, batch: int, dtype: str, half: bool, per_weight: int) -> Memory:
        learns = sum(self.sizes[name] for name in self.learning)
        packed = sum(self.sizes[name] for name in self.four_bits)
        frozen = sum(self.sizes.values()) - learns - packed
        scale = 1 if half else 2
        activations = 0
        if self.runs_language:
            kept = _kept(batch * self.tokens, self.width, self.blocks, self.recompute)
            activations += kept * scale
            # logits of supervised positions: values, probabilities and their gradient, in float32
            activations += 3 * 4 * batch * ANSWER_TOKENS * self.vocabulary
        for prefix, size in self._encoders():
            if self._count(prefix, learning=True):
                tokens = batch * size.tokens * size.tiles
                activations += _kept(tokens, size.width, size.blocks, self.recompute) * scale
        return Memory(
            weights=4 * learns + _BYTES[dtype] * frozen + int(packed * BITS / 8),
            gradients=4 * learns,
            optimizer=per_weight * learns,
            activations=activations,
        )

    def operations_per_sample(self) -> float:
        """Return the floating-point operations of forward and backward for one sample."""
        total = 0.0
        for prefix, size in self._encoders():
            learns = self._count(prefix, learning=True)
            forward = 2.0 * self._count(prefix) * size.tokens
            forward += _attention(size.tokens, size.width, size.blocks)
            forward *= size.tiles
            total += 3.0 * forward if learns else (0.0 if self.cached else forward)
        learns = self._count("fusion.", learning=True)
        total += (6.0 if learns else 2.0) * self._count("fusion.") * self._fusion_tokens()
        if not self.runs_language:
            return total
        matrices = self._count("language_model.") - self.vocabulary * self.width
        share = self._count("language_model.", learning=True) / self._count("language_model.")
        forward = 2.0 * matrices * self.tokens + _attention(self.tokens, self.width, self.blocks)
        return total + forward * (2.0 + share + float(self.recompute))

    @property
    def runs_language(self) -> bool:
        """Whether the stage runs the language model at all."""
        return "next_token" in self.objectives

    def _fusion_tokens(self) -> int:
        """Return the tokens that pass the fusion for one sample, all passes together."""
        # a fusion that gives prompts works on the tokens it reads
        read = sum(size.given for _, size in self._encoders())
        queries, reader = self.config.visual_tokens or read, self.config.reader
        text = 0 if reader is None else reader.length
        pairs = {"itc": 1, "itm": 3, "itg": 1}
        passes = sum(pairs.get(name, 0) for name in self.objectives)
        return passes * (queries + text) or queries + text

    def _encoders(self) -> list[tuple[str, EncoderCost]]:
        """Return the parameter prefix and the sizes of every encoder."""
        return [
            (f"encoders.{spec.name}.", family.cost(spec, family.read_config(spec)))
            for spec in self.config.encoder_specs()
            if spec.fused
            for family in (ENCODERS[spec.family],)
        ]

    def _count(self, prefix: str, *, learning: bool = False) -> int:
        names = self.learning if learning else self.sizes
        return sum(self.sizes[name] for name in names if name.startswith(prefix))


def _kept(tokens: int, width: int, blocks: int, recompute: bool) -> int:
    """Return the bytes of activations kept for backward in half precision."""
    block = _ACTIVATION_BYTES * tokens * width
    return block + 2 * tokens * width * (blocks - 1) if recompute else block * blocks


def _attention(tokens: int, width: int, blocks: int) -> float:
    """Return the forward operations of scores and weighted sums in all blocks."""
    return 4.0 * blocks * tokens * tokens * width
