"""What a language model trains fastest with: attention, compilation, Liger's kernels.

PyTorch's fused attention for CPUs has a slow backward pass in bfloat16: one layer took 49 ms
forward and backward fused and 26 ms plain at 4 x 9 heads x 286 positions x 64, and 90 ms against
25 ms at 32 x 6 x 136 x 32 (one thread, torch 2.13). Plain attention keeps the whole attention
matrix in memory, so long sequences stay fused. The value is the same up to rounding.

Compilation and Liger's kernels concern the language model alone: shapes elsewhere follow from the
values of a batch, and nearly all of the arithmetic is there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.liger import apply_liger_kernel

from manyeyes.errors import RecipeError
from manyeyes.language import IdleLanguage
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import Recipe, StageRecipe

LONGEST_PLAIN = 1024
"""Visual tokens per image up to which plain attention is chosen."""
COMPILE = ("torch_compile", "torch_compile_backend", "torch_compile_mode")
"""Fields of ``training`` that concern the language model here, not the whole model."""
_OWN_LOSS = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""Liger's losses take labels; ours is computed at supervised positions alone."""


def choose_attention(model: ManyEyesForConditionalGeneration, args: TrainingArguments) -> None:
    """Switch language model and Q-Former to plain attention where that trains faster."""
    short = model.config.visual_tokens <= LONGEST_PLAIN
    if args.device.type == "cpu" and args.bf16 and short:
        for module in (model.language_model, *model.fusion.modules()):
            if isinstance(module, PreTrainedModel):
                module.set_attn_implementation("eager")


def check_liger(stage: StageRecipe) -> None:
    """Check that Liger's kernels run here, where a stage asks for them.

    Raises:
        RecipeError: no GPU, or the package is missing.
    """
    if not stage.training.get("use_liger_kernel"):
        return
    where = f"stages.{stage.name}.training.use_liger_kernel"
    if stage.training.get("use_cpu") or not torch.accelerator.is_available():
        raise RecipeError(f"{where}: Liger's kernels run on a GPU, and there is none; leave it out")
    if importlib.util.find_spec("liger_kernel") is None:
        raise RecipeError(f"{where}: needs the package liger-kernel: pip install liger-kernel")


def set_attention(model: Any, recipe: Recipe) -> None:
    """Let the language model attend as ``attention`` of the recipe says, if it says anything.

    Raises:
        RecipeError: this machine or the model cannot.
    """
    name = recipe.attention
    if name is None or isinstance(model.language_model, IdleLanguage):
        return
    if model.config.given.prompts and name.startswith("flash"):
        raise RecipeError(
            f"attention: adapter prompts need sdpa or eager, not {name}, which knows no prompts"
        )
    try:
        model.language_model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"attention: {name} cannot be used here: {reason}") from error


def speed_up(language_model: Any, args: TrainingArguments, training: Mapping[str, Any]) -> None:
    """Put Liger's kernels into the language model and compile it, as ``training`` says."""
    if args.use_liger_kernel:
        apply_liger_kernel(language_model, {**_OWN_LOSS, **(args.liger_kernel_config or {})})
        args.use_liger_kernel = False  # the stock trainer would look for kernels of the whole
    backend, mode = (training.get(name) for name in COMPILE[1:])
    if training.get("torch_compile") or backend or mode:
        language_model.compile(backend=backend or "inductor", mode=mode)
