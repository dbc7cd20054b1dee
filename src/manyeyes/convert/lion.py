"""LION's released checkpoints (JiuTian-VL/JiuTian-LION), and its layout written from our models.

A file holds what was trained under ``model``, beside optimizer moments and an epoch, which are
dropped. EVA ViT-g, FlanT5 and the tagger come from their own checkpoints. Of frozen parts the file
may hold T5's tied embedding and buffers: those are left out. Source of the names: LION §2.2, §8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manyeyes.checkpoints.pth import read_pth
from manyeyes.errors import CheckpointError
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import Recipe, load_recipe, model_config

RECIPES: Mapping[int, str] = {2048: "lion/paper-xl", 4096: "lion/paper-xxl"}
"""Recipe of a released file, by the width of its language model."""

_QFORMER = "Qformer.bert."
_BLOCK = r"fusion\.aggregator\.(\d+)\."
_PARTS = {"own": "attention", "cross": "crossattention"}
_STACKS = {"encoder": 1, "decoder": 2}
"""Number of the feed-forward sub-layer in a T5 block."""

_RULES: tuple[tuple[str, str], ...] = (
    (r"fusion\.(query_tokens|ln_vision\..*)", r"\1"),
    (r"fusion\.projector\.0\.(\w+)", r"t5_proj.\1"),
    (r"fusion\.text\.(.*)", _QFORMER + r"embeddings.\1"),
    (r"fusion\.qformer\.layernorm\.(\w+)", _QFORMER + r"embeddings.LayerNorm.\1"),
    (
        r"fusion\.qformer\.(encoder\.layer\.\d+\.(?:cross)?attention)\.attention\.(.*)",
        _QFORMER + r"\1.self.\2",
    ),
    (r"fusion\.qformer\.(encoder\..*)", _QFORMER + r"\1"),
    (
        _BLOCK + r"(own|cross)\.change\.(query|key|value)\.(\w+)",
        r"fusion_adapter.blocks.\1.\2.self.\3.\4",
    ),
    (_BLOCK + r"(own|cross)\.change\.out\.(\w+)", r"fusion_adapter.blocks.\1.\2.output.dense.\3"),
    (_BLOCK + r"(own|cross)\.norm\.(\w+)", r"fusion_adapter.blocks.\1.\2.output.LayerNorm.\3"),
    (_BLOCK + r"ffn\.change\.0\.(\w+)", r"fusion_adapter.blocks.\1.intermediate.dense.\2"),
    (_BLOCK + r"ffn\.change\.2\.(\w+)", r"fusion_adapter.blocks.\1.output.dense.\2"),
    (_BLOCK + r"ffn\.norm\.(\w+)", r"fusion_adapter.blocks.\1.output.LayerNorm.\2"),
    (r"fusion\.aggregator_norm\.(\w+)", r"ln_adapter.\1"),
    (r"fusion\.aggregator_proj\.(.*)", r"adapter_proj.\1"),
    (r"bridge\.soft_prompt\.vector", "soft_prompt_hint"),
)  # fmt: skip
"""Our name → theirs, but for the adapters."""

_ADAPTER = re.compile(r"bridge\.mixture\.(adapters|gates)\.(\d)\.(encoder|decoder)(\d+)\.(.*)")
_FROZEN = re.compile(
    r"visual_encoder\..*|t5_model\.(?!.*\.adapter\.).*|Qformer\..*position_ids|Qformer\.cls\..*"
    r"|ram\..*|.*\.relative_position_index"
)
"""Names of parts that have their own checkpoints, and of buffers."""


@dataclass(frozen=True)
class LionReport:
    """How many tensors were taken, names left out (frozen parts) and, neither, unexpected ones.

    ``missing``: our names of trained tensors that the file lacks; they keep their fresh values.
    """

    taken: int
    left_out: tuple[str, ...]
    unexpected: tuple[str, ...]
    missing: tuple[str, ...]


def official_name(name: str) -> str | None:
    """Return the released layout's name of our parameter ``name``; None if it has none."""
    adapter = _ADAPTER.fullmatch(name)
    if adapter is not None:
        kind, number, stack, block, rest = adapter.groups()
        where = f"t5_model.{stack}.block.{block}.layer.{_STACKS[stack]}.adapter"
        if kind == "gates":
            return f"{where}.router_ratio{int(number) + 1}"
        return f"{where}.adapters.{number}.{rest}"
    for pattern, target in _RULES:
        match = re.fullmatch(pattern, name)
        if match is not None:
            found = match.expand(target)
            for ours, theirs in _PARTS.items():
                found = re.sub(rf"(fusion_adapter\.blocks\.\d+)\.{ours}\.", rf"\1.{theirs}.", found)
            return found
    return None


def official_state(model: ManyEyesForConditionalGeneration) -> dict[str, Tensor]:
    """Return what LION trains of ``model`` in the released layout.

    Raises:
        CheckpointError: a trained tensor that the layout has no name for.
    """
    state = {}
    for name, tensor in _trained(model).items():
        theirs = official_name(name)
        if theirs is None:
            raise CheckpointError(f"LION's layout has no name for {name!r}")
        state[theirs] = tensor.detach().clone()
    return state


def convert(
    file: Path,
    *,
    recipe: str | Path | None = None,
    language: str | None = None,
    vision: str | None = None,
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor, LionReport]:
    """Return model, processor and what was found in a released ``.pth`` file.

    Args:
        file: ``{model, optimizer, epoch}`` or the state dict alone, read without running code.
        recipe: whose model block has the file's shape; None = by the language model's width.
        language, vision: checkpoints of FlanT5 and of EVA (or a BLIP-2) instead of the recipe's.

    Raises:
        CheckpointError: of another kind or shape, or a base checkpoint is missing.
    """
    state = read_state(file)
    block = model_block(_recipe_of(state, file) if recipe is None else load_recipe(recipe))
    if language is not None:
        block["language"]["checkpoint"] = language
    if vision is not None:
        block["encoders"][0]["checkpoint"] = vision
    if "soft_prompt_hint" not in state and block["bridge"].get("tags") == "soft":
        block["bridge"]["tags"] = "none"  # released before stage 4
    config = model_config(block)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    return model, processor, fill(model, state, file)


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a released file by their own names.

    Raises:
        CheckpointError: damaged, or not LION's.
    """
    content = read_pth(file)
    state: Any = content.get("model", content)
    if not isinstance(state, dict) or not any(".adapter.adapters." in name for name in state):
        raise CheckpointError(
            f"{file}: holds no adapters ('t5_model.encoder.block.*.adapter.*'): not LION's"
        )
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def model_block(recipe: Recipe) -> dict[str, Any]:
    """Return the model block of a recipe's last stage."""
    return {
        key: dict(value) if isinstance(value, dict) else value
        for key, value in recipe.model.items()
    } | {"encoders": [dict(encoder) for encoder in recipe.model["encoders"]]}


@torch.no_grad()
def fill(
    model: ManyEyesForConditionalGeneration, state: Mapping[str, Tensor], file: Path
) -> LionReport:
    """Copy a file's tensors into ``model``.

    Raises:
        CheckpointError: a tensor of another shape, naming both.
    """
    own = _trained(model)
    by_official = {theirs: name for name in own if (theirs := official_name(name)) is not None}
    taken: list[str] = []
    left_out: list[str] = []
    unexpected: list[str] = []
    for theirs, tensor in state.items():
        name = by_official.get(theirs)
        if name is None:
            (left_out if _FROZEN.fullmatch(theirs) else unexpected).append(theirs)
            continue
        if own[name].shape != tensor.shape:
            raise CheckpointError(
                f"{file}: {theirs!r} is {tuple(tensor.shape)}, but {name!r} of this recipe is "
                f"{tuple(own[name].shape)}: give --recipe one of the file's shape"
            )
        own[name].copy_(tensor)
        taken.append(name)
    model.mark_trained(taken)
    missing = tuple(sorted(set(own) - set(taken)))
    return LionReport(len(taken), tuple(left_out), tuple(unexpected), missing)


def _trained(model: ManyEyesForConditionalGeneration) -> dict[str, Tensor]:
    every = model.state_dict()
    return {name: x for name, x in every.items() if name.startswith(("fusion.", "bridge."))}


def _recipe_of(state: Mapping[str, Tensor], file: Path) -> Recipe:
    biases = [x for name, x in state.items() if name.endswith(".adapters.0.up_proj.bias")]
    width = len(biases[0]) if biases else 0
    if width not in RECIPES:
        raise CheckpointError(
            f"{file}: adapters of width {width} fit no released LION "
            f"({', '.join(map(str, RECIPES))}): give --recipe a recipe of that shape"
        )
    return load_recipe(RECIPES[width])
