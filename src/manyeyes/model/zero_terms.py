"""Zeros that depend on parameters: every process and every batch has the same gradients.

Shapes: I images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from manyeyes.model.inputs import PIXELS
from manyeyes.model.pictures.tiles import GRIDS, VIEWS
from manyeyes.records import FusionText


def silent_image(model: Any, like: Tensor) -> Tensor:
    """Return a zero that depends on every visual parameter, for batches without any image.

    Without it a text-only batch leaves gradients undefined and distributed training waits.
    """
    visual = (model.encoders, model.fusion, model.bridge)
    learning = [p for module in visual for p in module.parameters() if p.requires_grad]
    if not learning:
        return like.new_zeros(())
    zeros: dict[str, Tensor] = {}
    rules = model.config.pixel_transforms()
    for name in model.config.fused_shapes():
        rule = rules[name]
        zeros[f"{PIXELS}{name}"] = like.new_zeros(1, 3, *rule.size, dtype=torch.float32)
    if model.config.tiling is not None:  # one picture in one tile
        zeros[GRIDS] = torch.ones(1, 2, dtype=torch.long, device=like.device)
        zeros[VIEWS] = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=like.device)
    nothing = torch.zeros(1, 1, dtype=torch.long, device=like.device)
    evidence = model.encode_images(FusionText(nothing, nothing + 1), None, **zeros)
    total = like.new_zeros((), dtype=torch.float32)
    for part in (evidence.tokens, evidence.prompts, evidence.layers, *evidence.trace.values()):
        if part is not None:
            total = total + part.float().sum()
    for parameter in model.bridge.parameters():
        total = total + parameter.float().sum()
    return (total * 0.0).to(like.dtype)


def shared_zero(model: Any, like: Tensor) -> Tensor:
    """Return a zero that, in shards, depends on every parameter besides the language model's.

    Processes reduce together the gradients that each of them has, the language model's first.
    So all must have the same ones in the same order, whatever images and texts their batches
    hold: the language model's input carries gradients in all processes or in none.
    """
    zero = like.new_zeros((), dtype=torch.float32)
    if model.training and issubclass(type(model), FSDPModule):
        for module in (model.encoders, model.fusion, model.bridge):
            for parameter in module.parameters():
                if parameter.requires_grad:
                    zero = zero + parameter.float().sum()
    return (zero * 0.0).to(like.dtype)
