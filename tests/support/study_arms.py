"""Recipes over tiny parts for studies: they train in moments, on a world of a few pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import tiny


def write_recipe(folder: Path, parts: Path, name: str, **changes: Any) -> str:
    """Write a one-stage recipe whose encoders are named by ``name`` ("clip", "clip+dinov2").

    ``changes`` are fields of the recipe.
    """
    encoders = tuple(name.split("+"))
    model = tiny.model_block(parts, encoders=encoders)
    if len(encoders) == 1:
        model["fusion"] = {"name": "single", "projector": "mlp2x"}
        model["encoders"][0]["levels"] = [-2]
    recipe = {"name": name, "model": model, "stages": [stage("train")], **changes}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


def stage(name: str, **training: Any) -> dict[str, Any]:
    """Return a stage of four steps of two samples."""
    return {
        "name": name,
        "train": {"fusion": True, "bridge": True},
        "data": [{"path": "llava/train.json", "image_root": "images"}],
        "cache_features": True,
        "training": {
            "max_steps": 4,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_steps": 1,
            "report_to": [],
            "use_cpu": True,
            **training,
        },
    }
