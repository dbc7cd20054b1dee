"""Shared by the command-line tests: a small world, a tiny recipe over it, a trained model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import tiny
from cli_runs import Trained, invoke, the_object
from manyeyes.world.make import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of 60 images."""
    return make_world(tmp_path_factory.mktemp("cli") / "world", images=60, seed=1).folder


@pytest.fixture(scope="session")
def recipe(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of two stages with two steps each over the tiny parts; makes its own world."""
    data = [{"path": "llava/train.json", "image_root": "images"}]
    training = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True}
    content = {
        "name": "tiny",
        "description": "tiny parts",
        "model": tiny.model_block(parts),
        "world": {"images": 60, "seed": 2},
        "stages": [
            {"name": "align", "train": {"fusion": True}, "data": data, "training": training},
            {
                "name": "instruct",
                "train": {"fusion": True, "bridge": True, "language": True},
                "data": data,
                "training": training,
            },
        ],
    }
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="session")
def trained(recipe: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The recipe, trained on the world through the command line."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    result = invoke("train", recipe, "--data", world, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    return Trained(recipe, out, world, the_object(result))
