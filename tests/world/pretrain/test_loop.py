"""The pretraining loop: schedule, exact resume, budgets, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manyeyes.errors import CheckpointError, NonFiniteError, UsageError
from manyeyes.world.pretrain import loop
from manyeyes.world.pretrain.loop import (
    COOL_DOWN,
    PartObjective,
    rate,
    save_state,
    step_generator,
    train,
)
from manyeyes.world.pretrain.vision.clip import ClipObjective
from manyeyes.world.pretrain.vision.detector import DetectorObjective
from manyeyes.world.pretrain.vision.dino import DinoObjective
from manyeyes.world.pretrain.vision.mae import MaeObjective
from manyeyes.world.pretrain.vision.tagger import TaggerObjective

OBJECTIVES = {
    "clip": lambda: ClipObjective(0, images_per_step=16),
    "detector": lambda: DetectorObjective(0, images_per_step=4),
    "dinov2": lambda: DinoObjective(0, images_per_step=4),
    "mae": lambda: MaeObjective(0, images_per_step=4),
    "tagger": lambda: TaggerObjective(0, images_per_step=4),
}


class Line(PartObjective):
    """Fits a line to noise; quick, and random in every step."""

    images_per_step = 4

    def __init__(self, poison: int = -1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.poison = nn.Linear(3, 1), poison

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        inputs = torch.randn(4, 3, generator=step_generator(self.seed, step))
        error = (self.layer(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        return error * (float("nan") if step == self.poison else 1.0), {}


def weights(objective: PartObjective) -> list[Tensor]:
    return [value.clone() for value in objective.state_dict().values()]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_resumed_run_equals_uninterrupted_run(name: str, tmp_path: Path) -> None:
    whole, first, second = (OBJECTIVES[name]() for _ in range(3))
    start = weights(whole)
    train(whole, tmp_path / "whole", steps=2)
    train_only_first_step(first, tmp_path / "parts")
    state = train(second, tmp_path / "parts", steps=2, resume=True)
    assert state.step == 2
    same = [torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(start, weights(whole), strict=True))


def train_only_first_step(objective: PartObjective, folder: Path) -> None:
    """Stop a two-step run after one step, as a crash would."""

    def save_and_stop(*arguments: Any) -> None:
        save_state(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save_state", save_and_stop)
        train(objective, folder, steps=2, save_every=0.0)


def test_seconds_choose_the_number_of_steps(tmp_path: Path) -> None:
    state = train(Line(), tmp_path, seconds=0.2)
    assert state.step == state.total >= 20
    assert state.seconds < 2.0


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    objective = Line()
    before = float(objective.loss(10_000)[0].detach())
    objective.learning_rate = 0.05
    train(objective, tmp_path, steps=300)
    assert float(objective.loss(10_000)[0].detach()) < 0.05 * before


def test_rate_warms_up_stays_and_cools_down() -> None:
    total = 2000
    assert rate(0, total) == pytest.approx(1 / 200)
    assert rate(700, total) == 1.0
    assert rate(total - 1, total) == pytest.approx(1 / (COOL_DOWN * total))


@pytest.mark.parametrize("budget", [{}, {"steps": 1, "seconds": 1.0}])
def test_unclear_budget_is_refused(budget: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="either"):
        train(Line(), tmp_path, **budget)  # type: ignore[arg-type]


def test_resume_without_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(Line(), tmp_path, steps=1, resume=True)


def test_non_finite_loss_stops_before_the_step(tmp_path: Path) -> None:
    objective = Line(poison=1)
    with pytest.raises(NonFiniteError, match="step 1"):
        train(objective, tmp_path, steps=3)
    assert all(torch.isfinite(value).all() for value in weights(objective))
