"""A trained part as a Hugging Face folder: bf16 safetensors, configuration, preprocessor."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from manyeyes.errors import CheckpointError
from manyeyes.world.pretrain.pictures import preprocessor_config


def check_start(folder: Path, model_type: str) -> None:
    """Check that a model of ``model_type`` lies in ``folder``, to start another part from.

    Raises:
        CheckpointError: there is none, or one of another type.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"nothing to start from: {config} does not exist")
    found = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    if found != model_type:
        raise CheckpointError(f"{folder} holds a model of type {found!r}, not {model_type!r}")


def save_part(
    model: PreTrainedModel, folder: Path, processor: str, normalization: str, **settings: object
) -> None:
    """Save a bf16 copy of ``model`` and the settings of its image ``processor`` class.

    ``settings``: those that only this class knows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model)
    nn.Module.to(half, torch.bfloat16)
    half.save_pretrained(folder)
    every = {**preprocessor_config(processor, normalization), **settings}
    text = json.dumps(every, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
