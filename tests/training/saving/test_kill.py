"""A training process is killed while it writes a checkpoint; resuming ends in the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from manyeyes.recipes import Recipe
from manyeyes.training import train
from manyeyes.training.saving.folders import checkpoints, step_of
from training_runs import losses, same_weights

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
LONG = (
    "stages.align.training.max_steps=40",
    "training.save_steps=4",
    "training.save_total_limit=2",
)
LORA = "stages.align.train.language={lora: {rank: 2, alpha: 4, dropout: 0.2}}"
DEADLINE = 240
"""Seconds for the process to come so far; it takes about ten on an idle machine."""


def start(
    recipe: Path, data: Path, out: Path, settings: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "manyeyes", "train", str(recipe), "--stage", "align"]
    return subprocess.Popen(
        [*command, *options, "--data", str(data), "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_while_writing(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Send SIGKILL as soon as a checkpoint after the second is being written."""
    until = time.monotonic() + DEADLINE
    try:
        while time.monotonic() < until and process.poll() is None:
            writing = list(folder.glob("unfinished-checkpoint-*"))
            if any(step_of(path) > 8 for path in writing):
                return
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("settings", [LONG, (*LONG, LORA)], ids=["in full", "LoRA"])
def test_killed_run_resumes_to_identical_weights(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    recipe = make_recipe(*settings)
    train(recipe, tmp_path / "whole", data_dir=data, stage="align")
    out = tmp_path / "out"
    process = start(tmp_path / "recipe.yaml", data, out, settings)
    kill_while_writing(process, out / "align")
    assert process.returncode == -9
    left = [step_of(path) for path in checkpoints(out / "align")]
    assert left and 4 <= left[-1] < 40
    train(recipe, out, data_dir=data, stage="align", resume=True)
    assert not list(out.rglob("*unfinished*"))
    for folder in ("model", "align/checkpoint-40"):
        assert same_weights(out / folder, tmp_path / "whole" / folder)
    assert losses(out / "align") == losses(tmp_path / "whole" / "align")
