"""What one training stage costs in arithmetic and time: estimates, and how they are computed.

Source: ours, after Kaplan et al. 2020 (2 floating-point operations per parameter and token).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from manyeyes.encoders import ENCODERS, EncoderCost, EncoderSpec
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.recipes import StageRecipe
from manyeyes.recipes.training_fields import on_this_machine
from manyeyes.study.costs.batch import ANSWER_TOKENS, TEXT_TOKENS
from manyeyes.study.costs.memory import Memory, recomputes
from manyeyes.training.arguments import micro_batch
from manyeyes.training.quantization import BITS
from manyeyes.training.trainable import Assignment

ASSUMPTIONS = (
    f"one image and {TEXT_TOKENS} text tokens per sample, {ANSWER_TOKENS} of them supervised",
    f"weights: what learns in float32, the rest in the recipe's dtype, nf4 in {BITS:.3g} bits",
    "gradients: float32; optimizer: the states of `optim` for what learns",
    "activations: the step is run on tensors without memory, and what lives at once is counted; "
    "what kernels take for themselves is not, nor what the allocator leaves unused; types are "
    "those that autocast chooses on a CPU (on CUDA the output of a layer norm is in float32)",
    "total: the highest moment of a step, when not all of the rows above are there",
    "operations: 2 per parameter and token forward; backward once more for what gradients pass "
    "through and once more for what learns; one more forward with activation checkpointing",
    "frozen encoders: forward only; nothing where their features are stored (cache_features)",
)
HERE = "seconds per step: operations / rate of matrix products measured here: a lower bound"


@dataclass(frozen=True)
class StageCost:
    """What one stage costs: operations and seconds on this machine, and memory if it is counted.

    ``memory``: of one process, by dtype of the frozen parts. ``ways``: the same for several GPUs,
    by how their processes share the model.
    """

    name: str
    steps: int | None
    batch_per_process: int
    samples_per_step: int
    tokens_per_sample: int
    compute_dtype: str
    operations_per_step: float
    seconds_per_step: float
    memory: Mapping[str, Memory] = field(default_factory=dict)
    ways: Mapping[str, Memory] = field(default_factory=dict)


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
    stage: StageRecipe,
    config: ManyEyesConfig,
    model: nn.Module,
    assignment: Assignment,
    rate: Mapping[torch.dtype, float],
    *,
    gpus: int = 1,
) -> StageCost:
    """Return what ``stage`` costs with the model that ``config`` describes, but its memory.

    ``model`` may be on the meta device; ``rate``: operations per second by dtype of computing.
    ``gpus``: processes, of each of which ``per_device_train_batch_size`` and accumulation are.
    """
    training = on_this_machine(stage.training)
    batch = micro_batch(stage)
    half = bool(training.get("bf16") or training.get("fp16"))
    steps = int(training.get("max_steps", -1))
    accumulation = int(training.get("gradient_accumulation_steps", 1))
    samples = stage.global_batch_size or batch * accumulation * gpus
    shape = _Shape(config, model, assignment, stage)
    operations = shape.operations_per_sample() * samples
    compute = torch.bfloat16 if half else torch.float32
    return StageCost(
        name=stage.name,
        steps=steps if steps > 0 else None,
        batch_per_process=batch,
        samples_per_step=samples,
        tokens_per_sample=shape.tokens,
        compute_dtype="bfloat16" if half else "float32",
        operations_per_step=operations,
        seconds_per_step=operations / rate[compute],
    )


class _Shape:
    """The sizes that memory and arithmetic depend on, for one stage."""

    def __init__(
        self,
        config: ManyEyesConfig,
        model: nn.Module,
        assignment: Assignment,
        stage: StageRecipe,
    ) -> None:
        self.config, self.cached = config, stage.cache_features
        self.recompute = recomputes(stage.training)
        self.objectives = set(stage.objectives)
        self.sizes = {name: p.numel() for name, p in model.named_parameters()}
        self.learning = {name for name in self.sizes if assignment[name] is not None}
        text: Any = config.text_config
        self.width, self.blocks = int(text.hidden_size), int(text.num_hidden_layers)
        self.vocabulary = int(text.vocab_size)
        self.tokens = config.visual_tokens + 2 + TEXT_TOKENS
        self.tiles = config.tiles
        self.tiled = () if self.tiles is None else self.tiles.encoders

    def operations_per_sample(self) -> float:
        """Return the floating-point operations of forward and backward for one sample."""
        total = 0.0
        for prefix, size in self._encoders():
            learns = self._count(prefix, learning=True)
            forward = encoder_operations(self._count(prefix), size)
            stored = self.cached and prefix.split(".")[1] not in self.tiled
            total += 3.0 * forward if learns else (0.0 if stored else forward)
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
        specs = [spec for spec in self.config.encoder_specs() if spec.fused]
        return [(f"encoders.{spec.name}.", self._seen(spec)) for spec in specs]

    def _seen(self, spec: EncoderSpec) -> EncoderCost:
        """What an encoder costs, for as many tiles as a picture may have."""
        family = ENCODERS[spec.family]
        cost = family.cost(spec, family.read_config(spec))
        if self.tiles is None:
            return cost
        times = self.tiles.layout.tiles(self.tiles.layout.largest)
        if spec.name not in self.tiled:
            return replace(cost, given=cost.given * times)
        return replace(cost, given=cost.given * times, tiles=cost.tiles * times)

    def _count(self, prefix: str, *, learning: bool = False) -> int:
        names = self.learning if learning else self.sizes
        return sum(self.sizes[name] for name in names if name.startswith(prefix))


def encoder_operations(parameters: int, size: EncoderCost) -> float:
    """Return the floating-point operations of an encoder's forward for one picture."""
    once = 2.0 * parameters * size.tokens + _attention(size.tokens, size.width, size.blocks)
    return once * size.tiles


def _attention(tokens: int, width: int, blocks: int) -> float:
    """Return the forward operations of scores and weighted sums in all blocks."""
    return 4.0 * blocks * tokens * tokens * width
