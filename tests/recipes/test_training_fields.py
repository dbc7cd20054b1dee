"""Values of a ``training:`` block that would be ignored, or train nothing, are refused."""

from __future__ import annotations

from typing import Any

import pytest

from manyeyes.errors import RecipeError
from manyeyes.recipes import load_recipe
from manyeyes.recipes.training_fields import check_training


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps", 0),
        ("max_steps", -2),
        ("num_train_epochs", 0),
        ("num_train_epochs", float("nan")),
        ("per_device_train_batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("ddp_timeout", 0),
        *(("learning_rate", value) for value in (-1, float("nan"), float("inf"), True, "nan")),
        ("weight_decay", -0.1),
        ("adam_beta1", 1),
        ("adam_beta2", -0.5),
        ("max_grad_norm", float("nan")),
        ("warmup_steps", -1),
    ],
)
def test_amounts_that_train_nothing_are_refused(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"stages\.a\.training\.{field}: expected .*, got"):
        check_training({field: value}, "stages.a.training")


def test_minus_one_step_goes_by_epochs() -> None:
    assert check_training({"max_steps": -1, "num_train_epochs": 0.5}, "x") == {
        "max_steps": -1,
        "num_train_epochs": 0.5,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eval_strategy", "steps"),
        ("per_device_eval_batch_size", 4),
        ("load_best_model_at_end", True),
        ("save_strategy", "best"),
        ("average_tokens_across_devices", False),
        ("dataloader_in_order", False),
    ],
)
def test_fields_without_effect_are_refused(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"x\.{field}: "):
        check_training({field: value}, "x")


def test_a_batch_has_one_size() -> None:
    settings = ["stages.align.training.gradient_accumulation_steps=2"]
    with pytest.raises(RecipeError, match=r"give `global_batch_size`.*, not both"):
        load_recipe("clip/paper", settings)


def test_no_steps_on_the_command_line_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"training\.max_steps: expected at least 1 step"):
        load_recipe("clip/world", ["training.max_steps=0"])
