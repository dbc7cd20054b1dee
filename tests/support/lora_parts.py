"""LoRA for tests: tiny models whose updates are not zero, and stages that train some."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from manyeyes.layers.adapters.lora import LoraOptions, is_lora
from manyeyes.model.lora import add_lora


def with_lora(model: Any, **parts: LoraOptions) -> Any:
    """Put LoRA on parts (``language_model=...``) and draw updates that change the answers."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for part, options in parts.items():
        add_lora(model, part.replace("__", "."), options)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5, generator=generator)
    return model.eval()


@torch.no_grad()
def answers(model: Any, rows: dict[str, Tensor]) -> Tensor:
    """The logits of a batch."""
    found: Tensor = model.eval()(**rows).logits
    return found


def updates(names: Any) -> set[str]:
    return {name for name in names if is_lora(name)}


def lora_stage(**changes: Any) -> dict[str, Any]:
    """A stage that trains LoRA with dropout beside fusion and bridge."""
    lora = {"rank": 2, "alpha": 4, "dropout": 0.2}
    return {
        "name": "align",
        "train": {"fusion": True, "bridge": True, "language": {"lora": lora}},
        "data": [{"path": "train.json"}],
        "training": {"max_steps": 4},
        **changes,
    }
