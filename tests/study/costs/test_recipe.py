"""What ``check`` says of a recipe: counts by part and stage, memory, arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from manyeyes.errors import RecipeError
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import Recipe, model_config
from manyeyes.study.costs.recipe import Inspection, inspect_recipe
from manyeyes.study.costs.stage import measure_rate


def make(parts: Path, **changes: Any) -> Recipe:
    """Return a recipe with a frozen-language stage and one that trains it."""
    data = [{"path": "a.json"}]
    training = changes.pop("training", {"max_steps": 5})
    content: dict[str, Any] = {
        "name": "tiny",
        "model": tiny.model_block(parts),
        "stages": [
            {"name": "align", "train": {"fusion": True}, "data": data, "training": training},
            {
                "name": "tune",
                "train": {"fusion": True, "language": True},
                "data": data,
                "training": training,
            },
        ],
    }
    return Recipe(**{**content, **changes})


@pytest.fixture(scope="module")
def found(parts: Path) -> Inspection:
    return inspect_recipe(make(parts))


def test_counts_are_those_of_the_real_model(found: Inspection, parts: Path) -> None:
    model = ManyEyesForConditionalGeneration(model_config(tiny.model_block(parts)))
    names = {"language_model": "language"}
    counted: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        key = names.get(part, part)
        counted[key] = counted.get(key, 0) + parameter.numel()
    assert {name: part.total for name, part in found.parts.items()} == counted
    for part in found.parts.values():
        assert not part.modules or sum(part.modules.values()) == part.total


def test_what_learns_is_counted_per_stage(found: Inspection) -> None:
    language, encoders = found.parts["language"], found.parts["encoders"]
    assert language.trainable_by_stage == {"align": 0, "tune": language.total}
    assert language.trainable == language.total
    assert encoders.trainable == 0


def test_memory_follows_what_learns_and_the_dtype(found: Inspection, parts: Path) -> None:
    align, tune = found.stages
    fusion, language = found.parts["fusion"].total, found.parts["language"].total
    assert align.memory["float32"].gradients == 4 * fusion
    assert align.memory["float32"].optimizer == 8 * fusion
    assert tune.memory["float32"].gradients == 4 * (fusion + language)
    total = sum(part.total for part in found.parts.values())
    assert align.memory["float32"].weights == 4 * total
    half = inspect_recipe(make(parts, dtype="bfloat16"))
    bridge = found.parts["bridge"].total  # of no checkpoint, so kept as it is
    assert half.stages[0].memory["bfloat16"].weights == 2 * total + 2 * fusion + 2 * bridge


def test_a_tuned_language_model_costs_one_more_pass(found: Inspection) -> None:
    align, tune = found.stages
    assert 1.2 < tune.operations_per_step / align.operations_per_step < 1.5


def test_checkpointing_trades_memory_for_arithmetic(parts: Path) -> None:
    deep = tiny.model_block(parts)
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "vocab_size": 300}
    config |= {"num_hidden_layers": 12, "num_attention_heads": 2, "num_key_value_heads": 2}
    deep["language"] = {"config": config}
    plain, checkpointed = (
        inspect_recipe(make(parts, model=deep, training={"max_steps": 5, **more})).stages[1]
        for more in ({}, {"activation_checkpointing": True})
    )
    assert checkpointed.memory["float32"].activations < plain.memory["float32"].activations
    assert checkpointed.operations_per_step > plain.operations_per_step


def test_stored_features_save_the_encoders_forward(parts: Path, found: Inspection) -> None:
    recipe = make(parts)
    stage = recipe.stages[0].model_copy(update={"cache_features": True})
    cached = inspect_recipe(recipe.model_copy(update={"stages": [stage]})).stages[0]
    saved = found.stages[0].operations_per_step - cached.operations_per_step
    encoders = found.parts["encoders"].total
    assert saved > 2 * encoders * 17 * 8  # 17 tokens per encoder, 8 samples per step


def test_trained_encoders_cost_forward_and_backward(parts: Path, found: Inspection) -> None:
    recipe = make(parts)
    stage = recipe.stages[0].model_copy(update={"train": {"fusion": True, "encoders": True}})
    opened = inspect_recipe(recipe.model_copy(update={"stages": [stage]}))
    assert opened.parts["encoders"].trainable == opened.parts["encoders"].total
    assert opened.stages[0].operations_per_step > found.stages[0].operations_per_step
    assert opened.stages[0].memory["float32"].activations > (
        found.stages[0].memory["float32"].activations
    )


def test_a_stage_may_change_the_model(parts: Path) -> None:
    recipe = make(parts)
    changed = recipe.stages[1].model_copy(update={"model": {"fusion": {"merge_patches": 2}}})
    stages = [recipe.stages[0], changed]
    align, tune = inspect_recipe(recipe.model_copy(update={"stages": stages})).stages
    assert (align.tokens_per_sample, tune.tokens_per_sample) == (16 + 130, 4 + 130)


def test_a_pattern_that_covers_nothing_is_named(parts: Path) -> None:
    recipe = make(parts)
    stage = recipe.stages[0].model_copy(update={"train": {"fusoin": True}})
    with pytest.raises(RecipeError, match="fusoin"):
        inspect_recipe(recipe.model_copy(update={"stages": [stage]}))


def test_the_rate_of_matrix_products_is_positive() -> None:
    assert measure_rate(torch.float32, side=64, seconds=0.001) > 0
