"""Bytes of optimizers: what the classes themselves allocate."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from manyeyes.study.costs.optimizers import optimizer_bytes, working_bytes


def held_by(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's states after a step, step counters left out."""
    states = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [value for value in states if isinstance(value, torch.Tensor) and value.ndim]
    return sum(4 * tensor.numel() for tensor in tensors)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw_torch_fused", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
        ("adafactor", Adafactor),
    ],
)
def test_states_are_those_that_a_step_leaves(name: str, kind: type[torch.optim.Optimizer]) -> None:
    layer = nn.Linear(48, 32)
    optimizer = kind(layer.parameters())
    layer(torch.ones(1, 48)).sum().backward()
    optimizer.step()
    shapes = [parameter.shape for parameter in layer.parameters()]
    assert optimizer_bytes(name, shapes) == held_by(optimizer)


def test_eight_bits_hold_large_tensors_only() -> None:
    large, small = torch.Size((256, 256)), torch.Size((63, 65))
    assert optimizer_bytes("adamw_bnb_8bit", [large]) == 2 * (65536 + 65536 // 64)
    assert optimizer_bytes("paged_adamw_8bit", [small]) == 8 * 63 * 65
    assert optimizer_bytes("lion_8bit", [large]) * 2 == optimizer_bytes("adamw_8bit", [large])


def test_what_is_unknown_counts_as_adamw() -> None:
    assert optimizer_bytes("galore_adamw", [torch.Size((8, 8))]) == 8 * 64


def test_fused_kernels_need_nothing_while_they_act() -> None:
    shapes = [torch.Size((8, 8))]
    assert working_bytes("adamw_torch_fused", shapes) == 0
    assert working_bytes("adamw_torch", shapes) == 4 * 64
