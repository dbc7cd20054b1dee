"""The ``training:`` block of a stage: fields of ``transformers.TrainingArguments``, checked.

One value is our own: ``bf16: auto`` is true where the machine computes bfloat16 natively.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments

from manyeyes.errors import RecipeError, nearest
from manyeyes.model.precision import bfloat16_pays

_NO_EVALUATION = "stages have no evaluation set; use `manyeyes evaluate`"

OWNED: Mapping[str, str] = {
    "output_dir": "it is given by --out",
    "resume_from_checkpoint": "use --resume",
    "seed": "write `seed:` at the top of the recipe or in the stage",
    "data_seed": "write `seed:` at the top of the recipe or in the stage",
    "remove_unused_columns": "batches hold no unused columns",
    "ignore_data_skip": "the sampler resumes exactly",
    "do_train": "stages always train",
    "average_tokens_across_devices": "the loss is always averaged over all processes' tokens",
    "dataloader_in_order": "the order is the stage's data mixture",
    "length_column_name": "the order is the stage's data mixture",
    "save_only_model": "every stage must be resumable",
    "auto_find_batch_size": "it would change the global batch silently",
    "label_smoothing_factor": "smoothing belongs to an objective",
    **dict.fromkeys(
        (
            "do_eval",
            "do_predict",
            "eval_strategy",
            "eval_steps",
            "eval_delay",
            "eval_on_start",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "eval_accumulation_steps",
            "per_device_eval_batch_size",
            "prediction_loss_only",
            "include_for_metrics",
            "batch_eval_metrics",
            "bf16_full_eval",
            "fp16_full_eval",
            "label_names",
            "load_best_model_at_end",
            "metric_for_best_model",
            "greater_is_better",
        ),
        _NO_EVALUATION,
    ),
}
"""Fields that the library sets itself or that would do nothing, with what to do instead."""

_POSITIVE = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "ddp_timeout",
)

_NOT_NEGATIVE = ("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps")
_SHARES = ("adam_beta1", "adam_beta2")

STRATEGY = "train_sampling_strategy"
GROUPED = "group_by_length"
_STRATEGIES = ("random", GROUPED)

_WIDER: Mapping[str, Any] = {"fsdp": bool | str | list[str] | None}
"""Fields whose annotation is narrower than what transformers documents."""


def check_training(training: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``training`` with every value in its field's type; ``where`` is its dotted place.

    Raises:
        RecipeError: unknown field (naming the nearest), field owned by the library, wrong type.
    """
    return {key: _check_field(key, value, f"{where}.{key}") for key, value in training.items()}


def on_this_machine(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``training`` with ``bf16: auto`` as what it is here."""
    said = dict(training)
    if said.get("bf16") == "auto":
        said["bf16"] = bfloat16_pays()
    return said


def _check_field(key: str, value: Any, where: str) -> Any:
    types = _field_types()
    if key == "bf16" and value == "auto":
        return value
    if key in OWNED:
        raise RecipeError(f"{where}: not set in recipes: {OWNED[key]}")
    if key not in types:
        raise RecipeError(f"{where}: unknown TrainingArguments field{nearest(str(key), types)}")
    for choices in _enums(types[key]):
        names = [str(member.value) for member in choices]
        value = "no" if value is False and "no" in names else value  # YAML reads a bare no as false
        if value not in names:
            listed = ", ".join(names)
            hint = nearest(str(value), names)
            raise RecipeError(f"{where}: {value!r} is not one of {listed}{hint}")
        if (key, value) == ("save_strategy", "best"):
            raise RecipeError(f"{where}: {value!r} has no meaning here: {_NO_EVALUATION}")
        return value
    try:
        checked = TypeAdapter(types[key]).validate_python(value)
    except ValidationError as error:
        raise RecipeError(f"{where}: {error.errors()[0]['msg']}, got {value!r}") from error
    if isinstance(value, bool) and not isinstance(checked, bool):
        raise RecipeError(f"{where}: expected a number, got {value!r}")
    _check_amount(key, checked, where)
    if key == STRATEGY and checked not in _STRATEGIES:
        raise RecipeError(
            f"{where}: {checked!r} is not one of {', '.join(_STRATEGIES)}"
            f"{nearest(checked, _STRATEGIES)}: the order is the stage's data mixture"
        )
    return checked


def _check_amount(key: str, value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where}: expected a finite number, got {value!r}")
    if key in _NOT_NEGATIVE and value is not None and value < 0:
        raise RecipeError(f"{where}: expected 0 or more, got {value!r}")
    if key in _SHARES and not 0 <= value < 1:
        raise RecipeError(f"{where}: expected a number from 0 to less than 1, got {value!r}")
    if key in _POSITIVE and not value > 0:
        raise RecipeError(f"{where}: expected more than 0, got {value!r}")
    if key == "max_steps" and value < 1 and value != -1:
        raise RecipeError(
            f"{where}: expected at least 1 step, or -1 to go by num_train_epochs, got {value!r}"
        )


@functools.cache
def _field_types() -> dict[str, Any]:
    hints = typing.get_type_hints(TrainingArguments)
    names = (field.name for field in dataclasses.fields(TrainingArguments) if field.init)
    return {name: _WIDER.get(name, hints[name]) for name in names}


def _enums(annotation: Any) -> list[type[enum.Enum]]:
    members = typing.get_args(annotation) or (annotation,)
    return [item for item in members if isinstance(item, type) and issubclass(item, enum.Enum)]
