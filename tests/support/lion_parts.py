"""Tiny LIONs: CLIP at three levels, a small Q-Former, adapters in a T5 or a decoder-only model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from image_text_parts import QFORMER
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
FUSION: dict[str, Any] = {
    **{key: value for key, value in QFORMER.items() if key != "contrast_width"},
    "name": "lion",
    "vocab_size": None,
    "max_positions": 64,
    "text_length": 24,
    "aggregator_heads": 2,
    "aggregator_ffn": 24,
    "aggregator_dropout": 0.0,
}


def lion_block(parts: Path, language: str = "t5", **changes: Any) -> dict[str, Any]:
    """The ``model:`` block; ``fusion`` and ``adapters`` change those blocks key by key."""
    fusion, adapters = changes.pop("fusion", {}), changes.pop("adapters", {})
    return {
        "encoders": [
            {
                "name": "clip",
                "family": "clip",
                "checkpoint": str(parts / "clip"),
                "levels": [1, 2, 3],
                "keep_prefix": True,
            }
        ],
        "fusion": {**FUSION, "tokenizer": str(parts / "llama"), **fusion},
        "bridge": {
            "name": "placeholder",
            "start_end": False,
            "adapters": {"bottleneck": 6, **adapters},
        },
        "language": {"checkpoint": str(parts / language)},
        "prompt_style": "plain",
        "box_style": "lion",
        "geometry": "squash",
        **changes,
    }


def build_lion(block: dict[str, Any]) -> Built:
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    return ManyEyesForConditionalGeneration.from_parts(config), processor


@torch.no_grad()
def stir(module: nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Move every parameter away from where it starts: adapters, gates, zero projections."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def one_adapter(adapter: Any, x: Tensor) -> Tensor:
    """H(X) written out (LION §2.1)."""
    hidden = (x @ adapter.down_proj.weight.T + adapter.down_proj.bias).clamp(min=0)
    added: Tensor = adapter.scale * (hidden @ adapter.up_proj.weight.T + adapter.up_proj.bias)
    return added


def slow_mixture(mixture: Any, place: str, x: Tensor, routes: list[int]) -> Tensor:
    """Σ_k G_k ⊙ H_k(X), sample by sample, position by position."""
    rows = []
    for sample, route in zip(x, routes, strict=True):
        positions = []
        for position in sample:
            total = torch.zeros_like(position)
            for adapters, gates in zip(mixture.adapters, mixture.gates, strict=True):
                total = total + gates[place].weight[route] * one_adapter(adapters[place], position)
            positions.append(total)
        rows.append(torch.stack(positions))
    return torch.stack(rows)
