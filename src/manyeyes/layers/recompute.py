"""Activation checkpointing of frozen parts that gradients pass through.

``transformers`` computes a block's states again in the backward pass only where the block is in
training mode. Frozen parts stay in ``eval()``, so that nothing of them is dropped; but gradients
pass through a frozen language model to the projector before it, and the states of its blocks are
most of what such a step holds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def recompute_frozen(part: nn.Module) -> None:
    """Let the blocks of a frozen part heed ``activation_checkpointing_enable``, too."""
    for block in part.modules():
        if isinstance(block, GradientCheckpointingLayer):
            block.forward = partial(_forward, block)


def _forward(block: Any, *args: Any, **kwargs: Any) -> Any:
    """The block's own ``forward``; a graph keeps its inputs alone if checkpointing is on."""
    own = partial(type(block).forward, block, **kwargs)
    frozen = block.gradient_checkpointing and not block.training and torch.is_grad_enabled()
    if not frozen or kwargs.get("past_key_values") is not None:
        return own(*args)
    return block._gradient_checkpointing_func(own, *args)
