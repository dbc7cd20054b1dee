"""What a recipe will build and cost, before anything is loaded or run.

The model is built on PyTorch's meta device: exact parameter counts, no memory, no weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from manyeyes.encoders import GridEncoder
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.lora import add_lora, lora_parts, parse_lora
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import PartTraining, Recipe, StageRecipe, model_config, stage_model
from manyeyes.study.costs.memory import Counting
from manyeyes.study.costs.stage import ASSUMPTIONS, HERE, StageCost, measure_rate, stage_cost
from manyeyes.study.costs.tracing import Traced
from manyeyes.training.lora import prepare_lora
from manyeyes.training.packing import packs
from manyeyes.training.quantization import check_quantized
from manyeyes.training.trainable import Assignment, assign

DDP, FSDP = "DDP", "FSDP2"

PARTS: Mapping[str, str] = {
    "encoders": "encoders",
    "fusion": "fusion",
    "bridge": "bridge",
    "language": "language_model",
}
"""Part of a recipe → attribute of the model."""


@dataclass(frozen=True)
class Part:
    """Parameters of one part: all, those that learn in some stage, per stage, per module.

    ``modules`` also names what the part holds directly, such as gates. ``modules_by_stage``: of
    each stage's own model, which may hold more, two names deep.
    """

    total: int
    trainable: int
    trainable_by_stage: Mapping[str, int]
    modules: Mapping[str, int]
    modules_by_stage: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Inspection:
    """Everything ``manyeyes check RECIPE`` reports.

    ``published_sizes``: parameters of each encoder as its authors count them. ``visual_tokens``: of
    an image, the most where pictures are seen in tiles. ``tiles``: the most of an image, the
    thumbnail among them; 0 = none. ``tiled``: the encoders that see them.
    """

    recipe: str
    description: str
    dtype: str
    parts: Mapping[str, Part]
    visual_tokens: int
    image_sizes: Mapping[str, tuple[int, int]]
    published_sizes: Mapping[str, int]
    stages: tuple[StageCost, ...]
    operations_per_second: float
    tiles: int = 0
    tiled: tuple[str, ...] = ()

    @property
    def trainable_by_stage(self) -> dict[str, int]:
        """Parameters that learn in each stage, over all parts."""
        return {
            stage.name: sum(part.trainable_by_stage[stage.name] for part in self.parts.values())
            for stage in self.stages
        }

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as JSON data; sizes in bytes."""
        stages = []
        for stage in self.stages:
            memory = {name: vars(m) for name, m in stage.memory.items()}
            ways = {name: vars(m) for name, m in stage.ways.items()}
            stages.append({**vars(stage), "memory": memory, "ways": ways})
        return {
            "recipe": self.recipe,
            "description": self.description,
            "dtype": self.dtype,
            "parts": {name: vars(part) for name, part in self.parts.items()},
            "trainable_by_stage": self.trainable_by_stage,
            "visual_tokens": self.visual_tokens,
            "tiles": self.tiles,
            "tiled": list(self.tiled),
            "image_sizes": {name: list(size) for name, size in self.image_sizes.items()},
            "published_sizes": dict(self.published_sizes),
            "stages": stages,
            "operations_per_second": self.operations_per_second,
            "assumptions": [*ASSUMPTIONS, HERE],
        }


@functools.cache
def _rates() -> Mapping[torch.dtype, float]:
    """How fast this machine computes, measured once."""
    return {dtype: measure_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}


def inspect_recipe(recipe: Recipe, *, gpus: int = 1, memory: bool = True) -> Inspection:
    """Build every stage's model on the meta device and count.

    ``gpus``: processes that train together; memory is that of each. ``memory``: count it, which
    runs a step of every stage on tensors without numbers and takes most of the time.

    Raises:
        RecipeError: an impossible model block, or a ``train`` pattern that covers nothing.
        PartError: parts that do not fit together.
        CheckpointError: an architecture that is neither written in the recipe nor found.
    """
    rate = _rates()
    config, model = build_on_meta(recipe.model)
    models: dict[str, nn.Module] = {}
    assignments: dict[str, Assignment] = {}
    costs = []
    traced: dict[Any, Traced] = {}
    for stage, own_config, own in stage_models(recipe, config, model):
        models[stage.name] = own
        learning = assignments[stage.name] = assign(own, stage.train)
        check_quantized(own, recipe.quantization, learning)
        cost = stage_cost(stage, own_config, own, learning, rate, gpus=gpus)
        if memory:
            counting = Counting(recipe, stage, own, learning, traced)
            cost = replace(cost, **_memory(recipe, stage, counting, gpus))
        costs.append(cost)
    return Inspection(
        recipe=recipe.name,
        description=recipe.description,
        dtype=recipe.dtype,
        parts={
            name: _part(model, attribute, models, assignments) for name, attribute in PARTS.items()
        },
        visual_tokens=config.visual_tokens,
        image_sizes={name: rule.size for name, rule in config.pixel_transforms().items()},
        published_sizes=_published_sizes(model),
        stages=tuple(costs),
        operations_per_second=rate[torch.float32],
        tiles=0 if model.tiles is None else model.tiles.layout.tiles(model.tiles.layout.largest),
        tiled=() if model.tiles is None else model.tiles.encoders,
    )


def _memory(recipe: Recipe, stage: StageRecipe, counting: Counting, gpus: int) -> dict[str, Any]:
    """Return the memory fields of a stage's cost."""
    if gpus == 1:
        return {"memory": {recipe.dtype: counting.memory()}}
    ways = {DDP: counting.memory(gpus), FSDP: counting.memory(gpus, sharded=True)}
    own = ways[FSDP if stage.training.get("fsdp") else DDP]
    return {"memory": {recipe.dtype: own}, "ways": ways}


def _published_sizes(model: ManyEyesForConditionalGeneration) -> dict[str, int]:
    return {
        name: encoder.published_size
        for name, encoder in model.encoders.items()
        if isinstance(encoder, GridEncoder)
    }


def stage_models(
    recipe: Recipe, config: ManyEyesConfig, whole: ManyEyesForConditionalGeneration
) -> Iterator[tuple[StageRecipe, ManyEyesConfig, ManyEyesForConditionalGeneration]]:
    """Yield every stage with configuration and model, on the meta device and with its LoRA.

    ``whole``: the recipe's own model, which stages that change nothing share.
    """
    carried: dict[str, Any] = {}
    for stage in recipe.stages:
        own = config, whole
        lora = any(isinstance(said, PartTraining) and said.lora for said in stage.train.values())
        if stage.model or carried or lora:
            own = build_on_meta(stage_model(recipe, stage))
        for part, said in () if stage.fresh else carried.items():
            if part in lora_parts(own[1]):
                add_lora(own[1], part, parse_lora(part, said))
        packs(stage, own[0])
        prepare_lora(own[1], stage.train)
        carried = dict(own[0].lora)
        yield stage, *own


def build_on_meta(
    model_block: Mapping[str, Any],
) -> tuple[ManyEyesConfig, ManyEyesForConditionalGeneration]:
    """Return configuration and model of a recipe's ``model:`` block, without memory or weights."""
    config = model_config(model_block)
    with torch.device("meta"):
        model = ManyEyesForConditionalGeneration(config)
    if config.image_tokens is None:  # a processor takes them from its tokenizer
        size = int(config.text_config.vocab_size)
        config.image_tokens = [size, size + 1, size + 2]
    return config, model


def _part(
    model: nn.Module,
    attribute: str,
    models: Mapping[str, nn.Module],
    assignments: Mapping[str, Assignment],
) -> Part:
    sizes = _sizes(model, attribute)
    own = {stage: _sizes(models[stage], attribute) for stage in models}
    learning = {
        stage: {n: size for n, size in own[stage].items() if assignments[stage].get(n) is not None}
        for stage in models
    }
    ever: dict[str, int] = {}
    for learnt in learning.values():
        ever.update(learnt)
    return Part(
        total=sum(sizes.values()),
        trainable=sum(ever.values()),
        trainable_by_stage={stage: sum(learnt.values()) for stage, learnt in learning.items()},
        modules=_modules(sizes, depth=1),
        modules_by_stage={stage: _modules(own[stage], depth=2) for stage in models},
    )


def _sizes(model: nn.Module, attribute: str) -> dict[str, int]:
    """Return the size of every parameter of one part, by its name in the model."""
    module = getattr(model, attribute)
    return {f"{attribute}.{name}": p.numel() for name, p in module.named_parameters()}


def _modules(sizes: Mapping[str, int], depth: int) -> dict[str, int]:
    """Return the sizes of a part's modules and of its own parameters, down to ``depth`` names."""
    found: dict[str, int] = {}
    for name, size in sizes.items():
        key = ".".join(name.split(".")[1 : 1 + depth])
        found[key] = found.get(key, 0) + size
    return found
