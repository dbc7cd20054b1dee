"""What a recipe will build and cost, before anything is loaded or run.

The model is built on PyTorch's meta device: exact parameter counts, no memory, no weights. Memory
and arithmetic are estimates; ``ASSUMPTIONS`` says how each is computed. Source: ours, after
Korthikanti et al. 2022 (activations per transformer block) and Kaplan et al. 2020 (2 floating-point
operations per parameter and token).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from manyeyes.configuration import ManyEyesConfig
from manyeyes.encoders import ENCODERS
from manyeyes.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import Recipe, StageRecipe, model_config, stage_model
from manyeyes.training.parts import Assignment, assign

PARTS: Mapping[str, str] = {
    "encoders": "encoders",
    "fusion": "fusion",
    "bridge": "bridge",
    "language": "language_model",
}
"""Part of a recipe → attribute of the model."""

TEXT_TOKENS = 128
ANSWER_TOKENS = 32
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ACTIVATION_BYTES = 34
"""Bytes kept per token and hidden unit of one transformer block in half precision."""
_OPTIMIZER_BYTES = {"adam": 8, "sgd": 4, "adafactor": 1, "lion": 4, "rmsprop": 4, "adagrad": 4}

ASSUMPTIONS = (
    f"one image and {TEXT_TOKENS} text tokens per sample, {ANSWER_TOKENS} of them supervised",
    "weights: what learns in float32, the rest in the dtype of the row",
    "gradients: float32; optimizer: 8 bytes per learning parameter (AdamW)",
    f"activations: {_ACTIVATION_BYTES} bytes x tokens x width per block in half precision, twice "
    "that in float32, attention scores not stored; with activation checkpointing one block in full "
    "and the input of every other; frozen encoders keep none",
    "one process; DDP keeps the same on each, FSDP2 divides weights, gradients and optimizer",
    "operations: 2 per parameter and token forward; backward once more for what gradients pass "
    "through and once more for what learns; one more forward with activation checkpointing",
    "seconds per step: operations / rate of matrix products measured here: a lower bound",
)


@dataclass(frozen=True)
class Part:
    """Parameters of one part: all, those that learn in some stage, per stage, per module."""

    total: int
    trainable: int
    trainable_by_stage: Mapping[str, int]
    modules: Mapping[str, int]


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


@dataclass(frozen=True)
class Inspection:
    """Everything ``manyeyes check RECIPE`` reports."""

    recipe: str
    description: str
    dtype: str
    parts: Mapping[str, Part]
    visual_tokens: int
    image_sizes: Mapping[str, tuple[int, int]]
    stages: tuple[StageCost, ...]
    operations_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as JSON data; sizes in bytes."""
        stages = []
        for stage in self.stages:
            memory = {name: {**vars(m), "total": m.total} for name, m in stage.memory.items()}
            stages.append({**vars(stage), "memory": memory})
        return {
            "recipe": self.recipe,
            "description": self.description,
            "dtype": self.dtype,
            "parts": {name: vars(part) for name, part in self.parts.items()},
            "visual_tokens": self.visual_tokens,
            "image_sizes": {name: list(size) for name, size in self.image_sizes.items()},
            "stages": stages,
            "operations_per_second": self.operations_per_second,
            "assumptions": list(ASSUMPTIONS),
        }


def inspect_recipe(recipe: Recipe) -> Inspection:
    """Build every stage's model on the meta device and count.

    Raises:
        RecipeError: an impossible model block, or a ``train`` pattern that covers nothing.
        PartError: parts that do not fit together.
        CheckpointError: an architecture that is neither written in the recipe nor found.
    """
    rate = {dtype: measure_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    config, model = build_on_meta(recipe.model)
    assignments: dict[str, Assignment] = {}
    costs = []
    for stage in recipe.stages:
        own = build_on_meta(stage_model(recipe, stage)) if stage.model else (config, model)
        assignments[stage.name] = assign(own[1], stage.train)
        costs.append(_stage_cost(recipe, stage, *own, assignments[stage.name], rate))
    return Inspection(
        recipe=recipe.name,
        description=recipe.description,
        dtype=recipe.dtype,
        parts={name: _part(model, attribute, assignments) for name, attribute in PARTS.items()},
        visual_tokens=config.visual_tokens,
        image_sizes={name: rule.size for name, rule in config.pixel_transforms().items()},
        stages=tuple(costs),
        operations_per_second=rate[torch.float32],
    )


def build_on_meta(
    model_block: Mapping[str, Any],
) -> tuple[ManyEyesConfig, ManyEyesForConditionalGeneration]:
    """Return configuration and model of a recipe's ``model:`` block, without memory or weights."""
    config = model_config(model_block)
    with torch.device("meta"):
        return config, ManyEyesForConditionalGeneration(config)


def measure_rate(dtype: torch.dtype, *, side: int = 1024, seconds: float = 0.1) -> float:
    """Return floating-point operations per second of square matrix products on this machine."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    x = torch.ones(side, side, dtype=dtype, device=device)
    (x @ x).sum().item()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        (x @ x).sum().item()
        done += 1
    return 2.0 * side**3 * done / (time.perf_counter() - start)


def _part(model: nn.Module, attribute: str, assignments: Mapping[str, Assignment]) -> Part:
    module = getattr(model, attribute)
    sizes = {f"{attribute}.{name}": p.numel() for name, p in module.named_parameters()}
    learning = {
        stage: {name for name in sizes if assignment.get(name) is not None}
        for stage, assignment in assignments.items()
    }
    ever = set().union(*learning.values())
    return Part(
        total=sum(sizes.values()),
        trainable=sum(sizes[name] for name in ever),
        trainable_by_stage={
            stage: sum(sizes[name] for name in names) for stage, names in learning.items()
        },
        modules={
            name: sum(p.numel() for p in child.parameters())
            for name, child in module.named_children()
        },
    )


def _stage_cost(
    recipe: Recipe,
    stage: StageRecipe,
    config: ManyEyesConfig,
    model: nn.Module,
    assignment: Assignment,
    rate: Mapping[torch.dtype, float],
) -> StageCost:
    training = stage.training
    batch = int(training.get("per_device_train_batch_size", 8))
    half = bool(training.get("bf16") or training.get("fp16"))
    steps = int(training.get("max_steps", -1))
    accumulation = int(training.get("gradient_accumulation_steps", 1))
    samples = stage.global_batch_size or batch * accumulation
    shape = _Shape(config, model, assignment, _checkpoints(training))
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
        self, config: ManyEyesConfig, model: nn.Module, assignment: Assignment, recompute: bool
    ) -> None:
        self.config, self.recompute = config, recompute
        self.sizes = {name: p.numel() for name, p in model.named_parameters()}
        self.learning = {name for name in self.sizes if assignment[name] is not None}
        text: Any = config.text_config
        self.width, self.blocks = int(text.hidden_size), int(text.num_hidden_layers)
        self.vocabulary = int(text.vocab_size)
        self.tokens = config.visual_tokens + 2 + TEXT_TOKENS

    def memory(self, batch: int, dtype: str, half: bool, per_weight: int) -> Memory:
        learns = sum(self.sizes[name] for name in self.learning)
        frozen = sum(self.sizes.values()) - learns
        scale = 1 if half else 2
        activations = _kept(batch * self.tokens, self.width, self.blocks, self.recompute) * scale
        for _, prefix, tokens, width, blocks in self._encoders():
            if self._count(prefix, learning=True):
                activations += _kept(batch * tokens, width, blocks, self.recompute) * scale
        # logits of supervised positions: values, probabilities and their gradient, in float32
        activations += 3 * 4 * batch * ANSWER_TOKENS * self.vocabulary
        return Memory(
            weights=4 * learns + _BYTES[dtype] * frozen,
            gradients=4 * learns,
            optimizer=per_weight * learns,
            activations=activations,
        )

    def operations_per_sample(self) -> float:
        """Return the floating-point operations of forward and backward for one sample."""
        total = 0.0
        for _, prefix, tokens, width, blocks in self._encoders():
            learns = self._count(prefix, learning=True)
            forward = 2.0 * self._count(prefix) * tokens + _attention(tokens, width, blocks)
            total += forward + (2.0 * forward if learns else 0.0)
        total += 6.0 * self._count("fusion.") * self.config.visual_tokens
        matrices = self._count("language_model.") - self.vocabulary * self.width
        share = self._count("language_model.", learning=True) / self._count("language_model.")
        forward = 2.0 * matrices * self.tokens + _attention(self.tokens, self.width, self.blocks)
        return total + forward * (2.0 + share + float(self.recompute))

    def _encoders(self) -> list[tuple[str, str, int, int, int]]:
        """Return (name, parameter prefix, tokens, width, blocks) of every encoder."""
        found = []
        for spec in self.config.encoder_specs():
            family = ENCODERS[spec.family]
            backbone = family.read_config(spec)
            side = family.image_size(spec, backbone) // int(backbone.patch_size)
            tokens = side * side + family.num_prefix_tokens(backbone)
            width, blocks = int(backbone.hidden_size), family.num_blocks(backbone)
            found.append((spec.name, f"encoders.{spec.name}.", tokens, width, blocks))
        return found

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
