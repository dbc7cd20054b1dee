"""The memory of one training step, counted: the step itself, on tensors without memory.

Forward and backward of a micro-batch run as the trainer runs them, under autocast where the stage
does, with activation checkpointing, packing, LoRA, stored features. Nothing is computed but shapes,
which takes seconds at 7B. Source: ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from torch import Tensor, nn

from manyeyes.language import IdleLanguage
from manyeyes.layers.attention.packed import pack_attention
from manyeyes.losses import OBJECTIVES
from manyeyes.recipes import StageRecipe
from manyeyes.study.costs.batch import assumed_batch
from manyeyes.study.costs.fakes import Dtype, fake, fake_mode, fake_weights
from manyeyes.study.costs.ledger import Ledger, Moment
from manyeyes.training.trainable import Assignment


@dataclass(frozen=True)
class Step:
    """How a stage takes a step.

    ``half``: under autocast to bfloat16. ``attention``: of the language model, None = its own.
    ``sharded``: the weights are those that FSDP2 gathers.
    """

    samples: int
    half: bool
    recompute: bool
    packing: bool
    attention: str | None = None
    sharded: bool = False


@dataclass(frozen=True)
class Traced:
    """What lived at once in a step."""

    moments: tuple[Moment, ...]

    @property
    def activations(self) -> int:
        """The most that lived without complete gradients."""
        return max(moment.others for moment in self.moments)

    def peak(self, share: float = 1.0) -> int:
        """The most that lived, when a process keeps ``share`` of the shared gradients."""
        return max(int(m.others + m.whole + share * m.shared) for m in self.moments)


def trace_step(
    model: Any,
    stage: StageRecipe,
    step: Step,
    assignment: Assignment,
    dtype: Dtype,
    shared: Collection[str] = (),
) -> Traced:
    """Return what one micro-batch of ``step`` holds besides weights.

    ``model``: on the meta device; it is as before afterwards. ``dtype``: of weights and buffers.
    ``shared``: parameters of whose gradients the process keeps a part.
    """
    mode = fake_mode()
    learns = partial(_learns, assignment)
    with (
        torch.random.fork_rng(devices=[]),
        fake_weights(model, mode, dtype, learns) as weights,
        _set_up(model, step),
    ):
        ledger, stored = Ledger(weights), torch.bfloat16 if step.half else torch.float32
        make = partial(fake, mode)
        batch = assumed_batch(model, stage, step.samples, make, packing=step.packing, stored=stored)
        for tensor in batch.values():
            if isinstance(tensor, Tensor):
                ledger.add(tensor)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                done = partial(ledger.complete, name=name, shared=name in shared)
                parameter.register_post_accumulate_grad_hook(done)
        with ledger, _parts_of_step(model.language_model, ledger):
            loss = _loss(model, stage.objectives, batch, half=step.half)
            ledger.close_moment("loss")
            loss.backward()
        ledger.close_moment("end")
        return Traced(tuple(ledger.moments))


def _learns(assignment: Assignment, name: str) -> bool:
    return assignment.get(name) is not None


def _loss(
    model: nn.Module, objectives: Mapping[str, float], batch: Mapping[str, Any], *, half: bool
) -> Tensor:
    """Return the stage's loss as ``StageTrainer.compute_loss`` does, under autocast if ``half``."""
    wanted = list(dict.fromkeys(need for name in objectives for need in OBJECTIVES[name].needs))
    forward = torch.autocast("cpu", torch.bfloat16, enabled=half)(model.forward)
    if half:
        forward = convert_outputs_to_fp32(forward)
    outputs = forward(**batch, num_items_in_batch=1, wanted=wanted)
    terms = [
        outputs.loss if OBJECTIVES[name].per == "token" else OBJECTIVES[name](outputs.trace)
        for name in objectives
    ]
    return torch.stack(terms).sum()


@contextmanager
def _parts_of_step(language: nn.Module, ledger: Ledger) -> Iterator[None]:
    """Close a moment before the language model, after it, and when its backward pass is over."""

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        ledger.close_moment("images seen")
        inputs = kwargs.get("inputs_embeds")
        if inputs is not None and inputs.requires_grad:
            inputs.register_hook(lambda gradient: ledger.close_moment("language model left"))

    def after(module: nn.Module, args: Any, output: Any) -> None:
        ledger.close_moment("language model passed")

    hooks = (
        language.register_forward_pre_hook(before, with_kwargs=True),
        language.register_forward_hook(after),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _set_up(model: Any, step: Step) -> Iterator[None]:
    """Let ``model`` train as ``step`` says for a block of code."""
    language = model.language_model
    own = language.config._attn_implementation
    chosen = step.attention is not None and not isinstance(language, IdleLanguage)
    if chosen:
        language.set_attn_implementation(step.attention)
    if step.packing:
        pack_attention(language)
    if step.recompute:
        model.activation_checkpointing_enable()
    model.train()
    try:
        yield
    finally:
        model.eval()
        if step.recompute:
            model.activation_checkpointing_disable()
        if step.packing or chosen:
            language.set_attn_implementation(own)
