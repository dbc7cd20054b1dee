"""Recipes and comparisons for the training tests; also imported by the processes they start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import tiny

WEIGHTS = "model.safetensors"


def recipe_data(parts: Path, **changes: Any) -> dict[str, Any]:
    """Return a two-stage recipe over the tiny parts, float32, four samples per step."""
    training = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": "none",
    }
    stages = [
        {
            "name": "align",
            "train": {"fusion": True, "bridge": True, "language": 1e-3},
            "data": [{"path": "train.json"}],
            "training": {"max_steps": 4},
        },
        {
            "name": "instruct",
            "train": {"fusion": True, "fusion.*scales*": 1e-2},
            "data": [{"path": "train.json"}],
            "training": {"max_steps": 3},
        },
    ]
    model = tiny.model_block(parts)
    return {"name": "tiny", "model": model, "training": training, "stages": stages, **changes}


def write_recipe(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


def largest_difference(a: Path, b: Path) -> float:
    """Return the largest absolute difference between two checkpoints of the same tensors."""
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def same_weights(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def losses(stage_folder: Path) -> list[float]:
    lines = (stage_folder / "log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
