"""Resuming goes on with the same random numbers, or says that it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from manyeyes.errors import CheckpointError
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.training import train
from manyeyes.training.saving.folders import checkpoints
from manyeyes.training.saving.random_state import continues_random_state
from manyeyes.training.stage import RunOptions, Stage
from manyeyes.training.trainer import StageTrainer
from training_runs import recipe_data, write_recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def begun(parts: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after the second of the four steps of its first stage."""
    home = tmp_path_factory.mktemp("begun")
    recipe = load_recipe(write_recipe(home / "recipe.yaml", recipe_data(parts)))
    train(recipe, home / "run", data_dir=data, stage="align")
    (home / "run" / "align" / "results.json").unlink()
    shutil.rmtree(checkpoints(home / "run" / "align")[-1])
    return home / "run"


@pytest.fixture
def out(begun: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun, tmp_path / "out")


def test_a_checkpoint_without_its_random_state_is_refused(
    out: Path, make_recipe: MakeRecipe, data: Path
) -> None:
    file = out / "align" / "checkpoint-2" / "rng_state.pth"
    file.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-2/rng_state\.pth is missing, so the"):
        train(make_recipe(), out, data_dir=data, stage="align", resume=True)
    assert [path.name for path in checkpoints(out / "align")] == ["checkpoint-2"]


def test_damaged_random_state_is_named(out: Path, make_recipe: MakeRecipe, data: Path) -> None:
    file = out / "align" / "checkpoint-2" / "rng_state.pth"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"rng_state\.pth: damaged \(not what its checksum"):
        train(make_recipe(), out, data_dir=data, stage="align", resume=True)
    file.with_name("checksums.json").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-2: cannot read random state"):
        train(make_recipe(), out, data_dir=data, stage="align", resume=True)


def test_another_number_of_processes_is_announced(
    out: Path, make_recipe: MakeRecipe, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = out / "align" / "checkpoint-2"
    (checkpoint / "rng_state.pth").unlink()
    (checkpoint / "checksums.json").unlink()
    path = checkpoint / "data_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "world_size": 2}))
    with caplog.at_level("WARNING", logger="manyeyes"):
        train(make_recipe(), out, data_dir=data, stage="align", resume=True)
    assert "was written by 2 process(es), this run has 1: random numbers" in caplog.text
    assert checkpoints(out / "align")[-1].name == "checkpoint-4"


def test_each_process_needs_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "rng_state_0.pth").touch()
    assert continues_random_state(tmp_path, 2, 0, 2)
    with pytest.raises(CheckpointError, match=r"rng_state_1\.pth is missing"):
        continues_random_state(tmp_path, 2, 1, 2)
    assert not continues_random_state(tmp_path, 2, 0, 4)


def test_the_scale_of_fp16_gradients_must_be_there(
    out: Path, make_recipe: MakeRecipe, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    checkpoint = out / "align" / "checkpoint-2"
    stage = Stage(recipe, recipe.stages[0], RunOptions(out, data, resume=True))
    trainer: StageTrainer = stage.prepare(checkpoint)[0]
    trainer._load_scaler(str(checkpoint))
    monkeypatch.setattr(trainer.accelerator, "scaler", object())
    with pytest.raises(CheckpointError, match=r"checkpoint-2/scaler\.pt is missing"):
        trainer._load_scaler(str(checkpoint))
