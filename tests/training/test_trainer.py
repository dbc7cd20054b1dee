"""The trainer: averages, safety, learning rates, and COMM's training checks (comm.md §10)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from manyeyes.errors import NonFiniteError, PartError
from manyeyes.losses import OBJECTIVES
from manyeyes.losses.contract import Objective
from manyeyes.recipes import Recipe
from manyeyes.training.stage import RunOptions, Stage
from manyeyes.training.trainer import StageTrainer
from training_runs import losses

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
ONE_STEP = "stages.align.training.max_steps=1"


def trainer_for(recipe: Recipe, data: Path, out: Path) -> StageTrainer:
    trainer, _ = Stage(recipe, recipe.stages[0], RunOptions(out, data)).prepare()
    return trainer


def state_of(trainer: StageTrainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def changed(trainer: StageTrainer, before: dict[str, Tensor]) -> set[str]:
    return {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}


def test_four_micro_batches_with_uneven_answers_equal_one_big_batch(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    found = {}
    for name, micro in (("whole", 4), ("split", 1)):
        settings = (
            "stages.align.global_batch_size=4",
            f"training.per_device_train_batch_size={micro}",
        )
        trainer = trainer_for(make_recipe(*settings), data, tmp_path / name)
        assert trainer.args.gradient_accumulation_steps == 4 // micro
        trainer.train()
        found[name] = state_of(trainer)
    lengths = {len(trainer.data.dataset[index]["input_ids"]) for index in range(4)}
    assert len(lengths) > 1
    assert losses(tmp_path / "whole" / "align") == pytest.approx(
        losses(tmp_path / "split" / "align"), abs=1e-5
    )
    for name, tensor in found["whole"].items():
        torch.testing.assert_close(tensor, found["split"][name], atol=1e-5, rtol=0)


def test_each_part_learns_at_its_own_rate(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    train = "stages.align.train={fusion: 1e-3, fusion.projector: 2e-3, language: 0.0}"
    trainer = trainer_for(make_recipe(ONE_STEP, train), data, tmp_path)
    before = state_of(trainer)
    trainer.train()
    moved = changed(trainer, before)
    assert moved and all(name.startswith("fusion.") for name in moved)
    steps = {
        name: float((parameter.detach() - before[name]).abs().max())
        for name, parameter in trainer.model.named_parameters()
        if name in moved and parameter.ndim > 1
    }
    for name, size in steps.items():  # Adam's first step is the learning rate
        assert size == pytest.approx(2e-3 if "projector" in name else 1e-3, rel=1e-2)


def test_comm_check_11_one_step_changes_mergers_and_no_encoder(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(make_recipe(ONE_STEP), data, tmp_path)
    before = state_of(trainer)
    trainer.train()
    moved = changed(trainer, before)
    assert {name for name in before if name.startswith("fusion.mergers.")} <= moved
    assert not {name for name in moved if name.startswith("encoders.")}
    trainer.model.train()
    modes = {part: {m.training for m in module.modules()} for part, module in modules(trainer)}
    assert modes == {"encoders.clip": {False}, "encoders.dinov2": {False}, "fusion": {True}}


def modules(trainer: StageTrainer) -> list[tuple[str, torch.nn.Module]]:
    encoders = [(f"encoders.{n}", module) for n, module in trainer.model.encoders.items()]
    return [*encoders, ("fusion", trainer.model.fusion)]


def without_gradient(trainer: StageTrainer) -> set[str]:
    """Return merger parameters that one backward pass leaves without gradient (check 10)."""
    batch = trainer.data.collate([trainer.data.dataset[index] for index in range(4)])
    trainer.model.train()
    trainer.model(**batch).loss.backward()
    return {
        name
        for name, parameter in trainer.model.fusion.mergers.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    }


OVERFIT = (
    "training.max_steps=120",
    "training.per_device_train_batch_size=8",
    "training.learning_rate=1.5e-2",
    "training.lr_scheduler_type=cosine",
    "training.warmup_steps=10",
    "training.save_steps=1000",
    "stages.align.train={fusion: true, bridge: true, language: true}",
)


def test_comm_check_21_overfits_eight_boxes_with_encoders_frozen(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    data = tiny.save_data(tmp_path / "eight", samples=8)
    trainer = trainer_for(make_recipe(*OVERFIT), data, tmp_path / "out")
    before = state_of(trainer)
    trainer.train()
    assert losses(tmp_path / "out" / "align")[-1] < 0.05
    assert not {name for name in changed(trainer, before) if name.startswith("encoders.")}
    rows = [trainer.data.dataset[index] for index in range(8)]
    assert len({row["pixel_values_clip"].sum().item() for row in rows}) == 8
    batch = trainer.data.collate(rows)
    exchanged = {k: v.roll(1, 0) if k.startswith("pixel") else v for k, v in batch.items()}
    trainer.model.eval()
    with torch.no_grad():
        right = float(trainer.model(**batch).loss)
        wrong = float(trainer.model(**exchanged).loss)
    assert right < 0.05
    assert wrong > 0.2, "what is written of a box is read in its image"


def test_comm_check_21_mergers_without_gradient_are_detected(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    data = tiny.save_data(tmp_path / "eight", samples=8)
    trainer = trainer_for(make_recipe(*OVERFIT), data, tmp_path)
    assert without_gradient(trainer) == set()
    trainer.model.zero_grad()
    for merger in trainer.model.fusion.mergers.values():
        merger.forward = torch.no_grad()(merger.forward)
    names = {name for name, _ in trainer.model.fusion.mergers.named_parameters()}
    assert without_gradient(trainer) == names


def test_non_finite_loss_stops_before_the_step_and_names_the_batch(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(make_recipe(), data, tmp_path)
    poisoned = trainer._batches.of_step(1)[2]
    rows = trainer.data.dataset
    read = type(rows).__getitem__

    class Poisoned(type(rows)):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            row = dict(read(self, index))
            if index == poisoned:
                row["pixel_values_clip"] = row["pixel_values_clip"] * float("nan")
            return row

    rows.__class__ = Poisoned
    names = ", ".join(trainer.data.name(index) for index in trainer._batches.of_step(1))
    with pytest.raises(NonFiniteError, match=f"step 2: the loss .*: {names}$"):
        trainer.train()
    assert trainer.state.global_step == 1
    assert all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())


def test_non_finite_gradient_stops_before_the_step(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(make_recipe(), data, tmp_path)
    before = state_of(trainer)
    weight = trainer.model.fusion.projector[0].weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match="step 1: the gradient is not finite"):
        trainer.train()
    assert changed(trainer, before) == set()


def logit_size(trace: Any) -> Tensor:
    return trace["logits"].float().square().mean()


def test_objectives_add_up_with_their_weights_and_are_logged(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = Objective("logit_size", ("logits",), "batch", logit_size)
    monkeypatch.setitem(OBJECTIVES, "logit_size", extra)
    settings = (
        ONE_STEP,
        "stages.align.objectives={next_token: 1.0, logit_size: 0.5}",
        "stages.align.global_batch_size=4",
        "training.per_device_train_batch_size=2",
    )
    trainer = trainer_for(make_recipe(*settings), data, tmp_path)
    batches = [trainer._batches.batch(number) for number in range(2)]
    rows = [trainer.data.collate([trainer.data.dataset[i] for i in batch]) for batch in batches]
    with torch.no_grad():
        traces = [trainer.model.train()(**row).trace for row in rows]
    expected = sum(float(logit_size(trace)) for trace in traces) / 2
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss_logit_size"] == pytest.approx(expected, rel=1e-5)
    assert entry["loss"] == pytest.approx(
        entry["loss_next_token"] + 0.5 * entry["loss_logit_size"], rel=1e-5
    )


def test_objective_without_its_intermediate_is_named() -> None:
    objective = Objective("itc", ("queries", "text"), "batch", logit_size)
    with pytest.raises(PartError, match=r"'itc' reads queries, text, .*produces: logits"):
        objective({"logits": torch.zeros(1)})


def test_next_token_objective_equals_the_models_own_loss(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(make_recipe(), data, tmp_path)
    batch = trainer.data.collate([trainer.data.dataset[index] for index in range(4)])
    with torch.no_grad():
        output = trainer.model(**batch)
    count = int((batch["labels"] != -100).sum())
    assert float(OBJECTIVES["next_token"](output.trace)) / count == pytest.approx(
        float(output.loss), rel=1e-6
    )


def test_frozen_parts_are_held_in_the_recipes_dtype(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    trainer = trainer_for(make_recipe("dtype=bfloat16", ONE_STEP), data, tmp_path)
    kinds = {
        part: {parameter.dtype for parameter in module.parameters()}
        for part, module in modules(trainer)
    }
    assert kinds["encoders.clip"] == kinds["encoders.dinov2"] == {torch.bfloat16}
    assert kinds["fusion"] == {torch.float32}
    trainer.train()
    assert len(losses(tmp_path / "align")) == 1
