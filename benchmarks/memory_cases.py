"""Recipes of ``memory.py``: a stage of a packaged one, with few blocks and a small batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manyeyes.recipes import Recipe, load_recipe, stage_model

_DEPTHS = ("num_hidden_layers", "num_layers", "num_decoder_layers")


@dataclass(frozen=True)
class Case:
    """A recipe's stage, made small.

    ``language``: blocks of the language model. ``encoders``: of every encoder that is a ViT.
    ``levels``: by encoder, where its own are too deep. ``fusion``: options. ``training``: fields.
    ``stage_fields``: other fields of the stage.
    """

    recipe: str
    stage: str
    batch: int
    language: int = 2
    encoders: int = 2
    levels: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    stage_fields: Mapping[str, Any] = field(default_factory=dict)


_COMM = {"clip": "1-2", "dinov2": "1-2"}
_FEW = {"layers": 4}
_LION = {"aggregator_levels": [4, 3, 2], "layers": 4}
CASES: Mapping[str, Case] = {
    "COMM, all but the encoders learns": Case("comm/small", "multitask", 4, levels=_COMM),
    "the same, activation checkpointing": Case(
        "comm/small", "multitask", 4, 8, levels=_COMM, training={"activation_checkpointing": True}
    ),
    "the same, encoders learn, Adafactor, float32": Case(
        "comm/small",
        "multitask",
        2,
        levels=_COMM,
        training={"bf16": False, "optim": "adafactor", "activation_checkpointing": False},
        stage_fields={"train": {"fusion": True, "language": True, "encoders": True}},
    ),
    "COMM, width 4096, LoRA": Case("comm/paper-lora", "multitask", 4, levels=_COMM),
    "concat, stored features": Case(
        "concat/small", "instruct", 8, stage_fields={"cache_features": True}
    ),
    "SVA": Case("sva/small", "instruct", 4),
    "Q-Former, three objectives": Case("qformer/small", "represent", 12, fusion=_FEW),
    "X-Former, four objectives": Case("xformer/small", "represent", 12, fusion=_FEW),
    "X-Former before OPT": Case("xformer/small", "align", 16, fusion=_FEW),
    "LION before T5": Case(
        "lion/small", "both", 8, encoders=5, levels={"clip": [2, 3, 4]}, fusion=_LION
    ),
    "MR-MLLM with boxes": Case(
        "mr-mllm/small", "refine", 4, 16, levels={"clip": [2]}, fusion={"visual_depth": 2}
    ),
}
QUICK: Mapping[str, Case] = {
    "COMM": Case("comm/world", "multitask", 2),
    "X-Former": Case("xformer/world", "represent", 2),
}


def small_recipe(case: Case) -> Recipe:
    """The recipe of a case, with its one stage; parts as the packaged recipe has them in QUICK."""
    recipe = load_recipe(case.recipe)
    stage = recipe.stage(case.stage)
    block = copy.deepcopy(stage_model(recipe, stage))
    if "/world" not in case.recipe:
        _make_shallow(block, case)
    fields = {**stage.training, **case.training, "per_device_train_batch_size": case.batch}
    changed = {
        "model": {},
        "start": [],
        "training": fields,
        "global_batch_size": None,
        **case.stage_fields,
    }
    stages = [stage.model_copy(update=changed)]
    return recipe.model_copy(update={"model": block, "stages": stages, "attention": "sdpa"})


def _make_shallow(block: dict[str, Any], case: Case) -> None:
    """Cut blocks off encoders and language model, and let nothing name weights."""
    for encoder in block["encoders"]:
        encoder.pop("checkpoint", None)
        if "num_hidden_layers" in encoder["backbone"]:
            encoder["backbone"]["num_hidden_layers"] = case.encoders
        if encoder["name"] in case.levels:
            encoder["levels"] = case.levels[encoder["name"]]
    language = block["language"]
    language.pop("checkpoint", None)
    for name in _DEPTHS:
        if name in language["config"]:
            language["config"][name] = case.language
    block["fusion"] |= case.fusion
