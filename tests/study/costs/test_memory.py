"""The memory of a stage: counted on tensors without memory, shared among processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

import tiny
from manyeyes.encoders.clip import ClipEncoder
from manyeyes.recipes import Recipe
from manyeyes.study.costs import memory as counting_module
from manyeyes.study.costs.fit import fit
from manyeyes.study.costs.gpus import Gpu
from manyeyes.study.costs.memory import Memory
from manyeyes.study.costs.recipe import DDP, FSDP, build_on_meta, inspect_recipe

Make = Callable[..., Recipe]


@pytest.fixture
def make(parts: Path) -> Make:
    """Return a recipe of one stage, whose fields a test gives."""

    def made(*, dtype: str = "float32", batch: int = 4, stages: int = 1, **fields: Any) -> Recipe:
        training = {"max_steps": 1, "bf16": False, "per_device_train_batch_size": batch}
        training |= fields.pop("training", {})
        base = {"train": {"fusion": True, "language": True}, "data": [{"path": "a.json"}]}
        all_stages = [
            {"name": f"stage{number}", **base, **fields, "training": training}
            for number in range(stages)
        ]
        block = tiny.model_block(parts)
        return Recipe(name="tiny", model=block, stages=all_stages, dtype=dtype)

    return made


def memory_of(recipe: Recipe, **options: Any) -> Memory:
    return inspect_recipe(recipe, **options).stages[0].memory[recipe.dtype]


def test_activations_grow_with_the_batch_in_a_straight_line(make: Make) -> None:
    two, four, six = (memory_of(make(batch=n)).activations for n in (2, 4, 6))
    assert four > two
    assert six - four == pytest.approx(four - two, rel=0.01)


def test_the_fusion_counts(make: Make) -> None:
    recipe = make(train={"fusion": True}, objectives={"next_token": 1.0})
    wider = recipe.model_copy(deep=True)
    wider.model["fusion"]["mlp_ratio"] = 64
    assert memory_of(wider).activations > memory_of(recipe).activations


def test_encoders_that_learn_keep_what_frozen_ones_drop(make: Make) -> None:
    train = {"fusion": True, "language": True}
    frozen = memory_of(make(train=train)).activations
    assert memory_of(make(train={**train, "encoders": True})).activations > frozen
    assert memory_of(make(train=train, cache_features=True)).activations <= frozen


def test_the_highest_moment_of_a_step_is_not_the_sum(make: Make) -> None:
    found = memory_of(make())
    kept = found.weights + found.optimizer
    assert kept + found.gradients <= found.total
    assert kept + found.activations <= found.total
    assert found.total < kept + found.gradients + found.activations


def test_gradients_that_accumulate_are_there_from_the_beginning(make: Make) -> None:
    found = memory_of(make(training={"gradient_accumulation_steps": 2}))
    assert found.total == sum((found.weights, found.optimizer, found.gradients, found.activations))


def test_under_autocast_the_copies_of_learning_weights_count(make: Make) -> None:
    half = memory_of(make(batch=1, dtype="bfloat16", training={"bf16": True}))
    frozen = memory_of(
        make(batch=1, dtype="bfloat16", training={"bf16": True}, train={"fusion": True})
    )
    learns = half.gradients // 4
    assert half.activations > frozen.activations + learns


def test_optimizers_differ(make: Make) -> None:
    adam, plain = (memory_of(make(training={"optim": name})) for name in ("adamw_torch", "sgd"))
    assert (adam.optimizer, plain.optimizer) == (2 * adam.gradients, 0)


def test_processes_hold_all_or_a_shard(make: Make) -> None:
    one = memory_of(make())
    stage = inspect_recipe(make(), gpus=4).stages[0]
    whole, shard = stage.ways[DDP], stage.ways[FSDP]
    assert (whole.weights, whole.gathered) == (one.weights, one.gradients)
    assert whole.total == one.total + one.gradients
    for kind in ("weights", "gradients", "optimizer"):
        assert getattr(shard, kind) == getattr(one, kind) // 4
    assert 0 < shard.gathered < one.weights + one.gradients
    assert stage.memory["float32"] == whole
    sharding = inspect_recipe(make(training={"fsdp": True}), gpus=4).stages[0]
    assert sharding.memory["float32"] == shard


def test_a_step_that_stages_share_is_counted_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    trace = counting_module.trace_step

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append("called")
        return trace(*args, **kwargs)

    monkeypatch.setattr(counting_module, "trace_step", counted)
    first, second = inspect_recipe(make(stages=2)).stages
    assert first.memory == second.memory
    assert len(calls) == 1


def test_counting_leaves_random_numbers_and_models_alone(make: Make) -> None:
    recipe = make(training={"activation_checkpointing": True})
    torch.manual_seed(3)
    inspect_recipe(recipe)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    _, model = build_on_meta(recipe.model)
    assert not any(isinstance(p, FakeTensor) for p in model.parameters())


def test_a_frozen_encoder_may_look_at_its_numbers(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make(train={"fusion": True, "language": True})
    stored = memory_of(make(train={"fusion": True, "language": True}, cache_features=True))
    own = ClipEncoder.hidden_states

    def looking(self: ClipEncoder, pixels: torch.Tensor) -> Any:
        return own(self, pixels * float(pixels.max()))

    monkeypatch.setattr(ClipEncoder, "hidden_states", looking)
    assert memory_of(recipe) == stored


def test_a_gpu_is_too_small_or_has_room(make: Make) -> None:
    cost = inspect_recipe(make()).stages[0]
    (held,) = cost.memory.values()
    gpu = Gpu("small", held.total - 5, 2e9, 1e9, 1e15, ())
    found = fit(cost, gpu, 1)
    assert found.spare == {"one process": -5}
    assert found.seconds == cost.operations_per_step / 1e9  # in float32
    slow = Gpu("slow", 1e12, 2e30, 1e30, 1e6, ())
    assert fit(cost, slow, 1).seconds > (held.weights + 2 * held.optimizer) / 1e6
