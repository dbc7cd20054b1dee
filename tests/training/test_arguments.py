"""TrainingArguments from a stage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from manyeyes.errors import RecipeError
from manyeyes.recipes import StageRecipe
from manyeyes.training.arguments import accumulation_steps, global_batch, training_arguments
from manyeyes.training.ranks import group_options


def stage(global_batch_size: int | None = None, **training: Any) -> StageRecipe:
    return StageRecipe(
        name="s",
        train={"fusion": True},
        data=[{"path": "x"}],
        global_batch_size=global_batch_size,
        training={"report_to": "none", **training},
    )


def test_epochs_become_steps(tmp_path: Path) -> None:
    spec = stage(per_device_train_batch_size=4, num_train_epochs=2.5, save_strategy="epoch")
    args = training_arguments(spec, tmp_path, seed=3, epoch_length=10)
    assert (args.max_steps, args.save_steps, args.save_strategy) == (8, 3, "steps")
    assert (args.seed, args.data_seed) == (3, 3)


def test_max_steps_win_over_epochs(tmp_path: Path) -> None:
    args = training_arguments(
        stage(max_steps=5, num_train_epochs=2), tmp_path, seed=0, epoch_length=10
    )
    assert args.max_steps == 5


def test_global_batch_sets_the_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = stage(global_batch_size=64, per_device_train_batch_size=8)
    assert [accumulation_steps(spec, ranks) for ranks in (1, 2, 8)] == [8, 4, 1]
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert global_batch(spec) == 64


def test_global_batch_that_does_not_divide_is_refused() -> None:
    spec = stage(global_batch_size=64, per_device_train_batch_size=8)
    with pytest.raises(RecipeError, match=r"64 is not a multiple of .* 8 x 3"):
        accumulation_steps(spec, 3)


def test_values_that_transformers_refuses_name_the_stage(tmp_path: Path) -> None:
    spec = stage(bf16=True, fp16=True)
    with pytest.raises(RecipeError, match=r"stages\.s\.training: At most one of fp16 and bf16"):
        training_arguments(spec, tmp_path, seed=0, epoch_length=10)


def test_sharding_in_one_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"stages\.s\.training\.fsdp: .*torchrun"):
        training_arguments(stage(fsdp=True), tmp_path, seed=0, epoch_length=10)


def test_the_process_group_waits_as_long_as_the_most_patient_stage() -> None:
    spec = [stage(ddp_timeout=60), stage(ddp_timeout=7200), stage(ddp_timeout=90)]
    assert group_options(spec)["timeout"] == timedelta(hours=2)
    assert group_options([stage(), stage(ddp_timeout=60)])["timeout"] == timedelta(minutes=30)


def test_the_process_group_uses_the_backend_and_device_of_the_stages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    found = group_options([stage(ddp_backend="gloo", use_cpu=True)] * 2)
    assert (found["backend"], found["cpu"]) == ("gloo", True)
    found = group_options([stage(), stage(use_cpu=True)])
    assert (found["backend"], found["cpu"]) == (None, False)
    with pytest.raises(RecipeError, match=r"ddp_backend: all stages share one .*s: gloo, s: None"):
        group_options([stage(ddp_backend="gloo"), stage()])
