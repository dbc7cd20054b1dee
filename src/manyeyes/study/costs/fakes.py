"""Tensors with shape, type and device but without memory, in the place of a model's weights.

They are ``FakeTensor`` of PyTorch on the CPU: operations between them compute shapes alone, choose
kernels and cast under autocast as real ones do, and record a graph for backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

CPU = torch.device("cpu")
LOOKS_AT_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException)
"""Errors of a model that goes on by what its tensors hold, which fakes do not."""

Dtype = Callable[[str, Tensor], torch.dtype]
"""What a parameter or buffer, given by name, is held in."""


def fake_mode() -> FakeTensorMode:
    """Return a mode whose tensors meet real ones."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake(mode: FakeTensorMode, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a fake tensor."""
    made: Any = torch.empty(tuple(shape), dtype=dtype, device="meta")
    return mode.fake_tensor_converter.from_meta_and_device(mode, made, CPU)


@contextmanager
def fake_weights(
    model: nn.Module, mode: FakeTensorMode, dtype: Dtype, learns: Callable[[str], bool]
) -> Iterator[list[Tensor]]:
    """Let ``model`` hold fakes for a block of code; yield them, each once.

    ``learns``: whether a parameter does, by its name.
    """
    made: dict[int, Tensor] = {}
    places: list[tuple[dict[str, Any], str, Tensor]] = []
    for prefix, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            held: dict[str, Any] = table
            for name, tensor in held.items():
                if tensor is None:
                    continue
                places.append((held, name, tensor))
                if id(tensor) not in made:
                    full = f"{prefix}.{name}" if prefix else name
                    made[id(tensor)] = _fake_of(tensor, full, mode, dtype, learns)
    try:
        for held, name, tensor in places:
            held[name] = made[id(tensor)]
        yield list(made.values())
    finally:
        for held, name, tensor in places:
            held[name] = tensor


def _fake_of(
    tensor: Tensor, name: str, mode: FakeTensorMode, dtype: Dtype, learns: Callable[[str], bool]
) -> Tensor:
    kind = dtype(name, tensor) if tensor.is_floating_point() else tensor.dtype
    made = fake(mode, tensor.shape, kind)
    if not isinstance(tensor, nn.Parameter):
        return made
    return nn.Parameter(made, requires_grad=tensor.is_floating_point() and learns(name))
