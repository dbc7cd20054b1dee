"""Write a trained part as a Hugging Face folder: bf16 safetensors, configuration, preprocessor."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from transformers import PreTrainedModel

from manyeyes.world.pretrain.pictures import preprocessor_config


def save_part(model: PreTrainedModel, folder: Path, processor: str) -> None:
    """Save a bf16 copy of ``model`` and the settings of its image ``processor`` class."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    settings = json.dumps(preprocessor_config(processor), indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(settings, encoding="utf-8")
