"""What a recipe may say. Unknown keys are errors that name the nearest key and its dotted place.

    recipe   name, seed, model, stages, world
    stage    one training run: what learns, which objectives, which data, which TrainingArguments

The ``model`` block is checked by ``ManyEyesConfig``, which knows its options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from manyeyes.errors import RecipeError, nearest
from manyeyes.layers.adapters.lora import LoraOptions
from manyeyes.losses import OBJECTIVES
from manyeyes.options import parse_options
from manyeyes.recipes.blocks import Block, DataSource, EvalRecipe, PartTraining, Seed, WeightSource
from manyeyes.recipes.messages import all_messages
from manyeyes.recipes.training_fields import GROUPED, STRATEGY, check_training

Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4"]


class StageRecipe(Block):
    """One training stage."""

    later = frozenset({"packing", "eval"})

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    """Of the stage, and of its folder in the run."""
    train: dict[str, bool | float | PartTraining]
    """What learns: name pattern → false (frozen), true (the stage's learning rate), a learning
    rate, or ``{learning_rate, weight_decay, lora}``. A pattern without ``*`` covers the part of
    that name. The last matching pattern decides. What no pattern covers is frozen."""
    objectives: dict[str, float] = Field(default={"next_token": 1.0})
    """Objective → its weight in the total loss. A weight of 0 takes out an objective of the parent
    recipe."""
    data: list[DataSource] = Field(min_length=1)
    """The files that the stage learns from."""
    mixture: Literal["weighted", "concatenate", "alternate"] = "weighted"
    """How the files are mixed. ``weighted`` draws samples by weight, ``concatenate`` takes every
    row once per epoch, ``alternate`` fills each global batch from one file, in turn."""
    global_batch_size: int | None = Field(default=None, ge=1)
    """Samples per optimizer step, over all processes. It sets the accumulation steps."""
    training: dict[str, Any] = Field(default={})
    """Fields of ``transformers.TrainingArguments`` for this stage. They replace those of the
    recipe's ``training``."""
    model: dict[str, Any] = Field(default={})
    """Changes to the recipe's model block in this stage."""
    start: list[WeightSource] = Field(default=[])
    """Weights to begin with. Empty: those of the stage before."""
    fresh: bool = False
    """Begin from the parts' own checkpoints alone, not from the stage before."""
    packing: bool | Literal["auto"] = False
    """Put the texts of each micro-batch into one row without padding. The loss is the same.
    ``auto``: where the model can."""
    eval: EvalRecipe | None = None
    """Validation while the stage trains."""
    cache_features: bool = False
    """Compute what frozen encoders give once, and keep it on disk."""
    cache_max_gb: float = Field(default=8.0, gt=0)
    """Most that the kept features may take, in GB. If they need more, nothing is kept."""
    seed: Seed | None = None
    """Of this stage. By default the recipe's."""

    @model_validator(mode="after")
    def _one_start(self) -> StageRecipe:
        if self.fresh and self.start:
            raise ValueError("a `fresh` stage has no `start`")
        return self

    @model_validator(mode="after")
    def _one_batch_size(self) -> StageRecipe:
        if self.global_batch_size is not None and "gradient_accumulation_steps" in self.training:
            raise ValueError(
                "give `global_batch_size`, which sets the accumulation, or "
                "`training.gradient_accumulation_steps`, not both"
            )
        return self

    @model_validator(mode="after")
    def _loss_to_validate(self) -> StageRecipe:
        if self.eval is not None and self.eval.data and "next_token" not in self.objectives:
            raise ValueError(
                "eval.data: the loss of `next_token` is measured, which is no objective of this "
                "stage; leave `data` out and name `benchmarks`"
            )
        return self

    @model_validator(mode="after")
    def _one_order(self) -> StageRecipe:
        if self.training.get(STRATEGY) == GROUPED and self.mixture == "alternate":
            raise ValueError(
                f"`training.{STRATEGY}: {GROUPED}` makes batches of one length, `mixture: "
                "alternate` of one source; they do not go together"
            )
        return self

    @field_validator("name")
    @classmethod
    def _not_a_run_file(cls, name: str) -> str:
        if name in ("evaluation", "features", "model", "world"):
            raise ValueError(f"a stage cannot be called {name!r}: the run folder uses that name")
        return name

    @field_validator("train", mode="before")
    @classmethod
    def _plain_train_values(cls, train: Any) -> Any:
        fields = tuple(PartTraining.model_fields)
        for pattern, value in train.items() if isinstance(train, dict) else ():
            block = isinstance(value, dict) and set(value) <= set(fields)
            if not (block or isinstance(value, bool | int | float | PartTraining)):
                raise ValueError(
                    f"{pattern}: expected true, false, a learning rate, or a block of "
                    f"{', '.join(fields)}; got {value!r}"
                )
            if isinstance(value, int | float) and not 0 <= value < math.inf:
                raise ValueError(f"{pattern}: expected a learning rate of 0 or more, got {value!r}")
            if block and not isinstance(value.get("lora"), LoraOptions | None):
                parse_options(LoraOptions, value["lora"], f"{pattern}.lora")
        return train

    @field_validator("train")
    @classmethod
    def _something_learns(cls, train: dict[str, Any]) -> dict[str, Any]:
        if not any(value is not False for value in train.values()):
            raise ValueError("nothing learns; give at least one part true or a learning rate")
        return train

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, objectives: dict[str, float]) -> dict[str, float]:
        for name, weight in objectives.items():
            if name not in OBJECTIVES:
                raise ValueError(f"unknown objective {name!r}{nearest(name, OBJECTIVES)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name}: expected a weight of 0 or more, got {weight!r}")
        used = {name: weight for name, weight in objectives.items() if weight}
        if not used:
            raise ValueError("a stage needs at least one objective")
        return used


class WorldRecipe(Block):
    """The built-in world's data that a recipe makes for itself when no ``--data`` is given."""

    images: int = Field(ge=1)
    """How many pictures, four fifths of them for training."""
    seed: Seed = 0
    """Of the drawing."""


class Recipe(Block):
    """A whole run: one model, trained through its stages in order."""

    later = frozenset({"quantization", "attention"})

    name: str
    """Of the recipe."""
    description: str = ""
    """One line about it."""
    seed: Seed = 0
    """Of initialisation and data order."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of frozen parts. What learns is kept in float32; ``training.bf16`` computes in
    bfloat16."""
    model: dict[str, Any]
    """Encoders, fusion, bridge, language model and prompts."""
    stages: list[StageRecipe] = Field(min_length=1)
    """What is trained, in order."""
    world: WorldRecipe | None = None
    """Data that the recipe makes for itself."""
    quantization: dict[str, Literal["nf4"]] = Field(default={})
    """Part → ``nf4``: its frozen linear layers are held in four bits while it trains."""
    attention: Attention | None = None
    """How the language model attends while it trains. By default ``sdpa``, on CPUs in bfloat16
    ``eager`` for short texts."""

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Recipe:
        seen: list[str] = []
        for stage in self.stages:
            if stage.name in seen:
                raise ValueError(f"two stages are called {stage.name!r}")
            for source in stage.start:
                if source.stage is not None and source.stage not in seen:
                    hint = nearest(source.stage, seen)
                    raise ValueError(
                        f"stage {stage.name!r} starts from {source.stage!r}, which is no earlier "
                        f"stage{hint}"
                    )
            seen.append(stage.name)
        return self

    def stage(self, name: str) -> StageRecipe:
        """Return the stage called ``name``.

        Raises:
            RecipeError: no such stage (naming the nearest).
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise RecipeError(
            f"recipe {self.name!r} has no stage {name!r}{nearest(name, names)}; "
            f"stages: {', '.join(names)}"
        )


def parse_recipe(data: Mapping[str, Any], where: str) -> Recipe:
    """Return the validated recipe; ``where`` (its file or name) is named in errors.

    Raises:
        RecipeError: every wrong key and value that can be found, with its dotted place.
    """
    mistakes = [
        f"unknown key {key!r}{nearest(str(key), Recipe.model_fields)}"
        for key in data
        if key not in Recipe.model_fields
    ]
    stages = data.get("stages")
    trained = [
        _training(stage, mistakes)
        for stage in (stages if isinstance(stages, list) else ())
        if isinstance(stage, dict)
    ]
    try:
        known = {key: value for key, value in data.items() if key in Recipe.model_fields}
        recipe = Recipe.model_validate(known)
    except ValidationError as error:
        raise RecipeError(told_together(where, mistakes + all_messages(error, data))) from error
    if mistakes:
        raise RecipeError(told_together(where, mistakes))
    return recipe.model_copy(
        update={
            "stages": [
                stage.model_copy(update={"training": training})
                for stage, training in zip(recipe.stages, trained, strict=True)
            ]
        }
    )


def told_together(where: str, mistakes: Sequence[str]) -> str:
    """Return one message for the mistakes of a recipe: a line each where there are several."""
    if len(mistakes) == 1:
        return f"{where}: {mistakes[0]}"
    lines = "".join(f"\n  {number}. {said}" for number, said in enumerate(mistakes, start=1))
    return f"{where}: {len(mistakes)} mistakes{lines}"


def _training(stage: Mapping[str, Any], mistakes: list[str]) -> dict[str, Any]:
    """The checked ``training`` block of a raw stage; what is wrong in it goes to ``mistakes``."""
    training = stage.get("training", {})
    if not isinstance(training, dict):
        return {}
    checked: dict[str, Any] = {}
    for key, value in training.items():
        try:
            checked |= check_training({key: value}, f"stages.{stage.get('name')}.training")
        except RecipeError as error:
            mistakes.append(str(error))
    return checked
