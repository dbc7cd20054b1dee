"""Bytes that an optimizer holds for what learns, and those it takes while it acts.

Sources: the states that the classes of torch, bitsandbytes, torchao and transformers allocate for a
parameter; bitsandbytes' block-wise quantisation (Dettmers et al. 2022, arXiv 2110.02861), whose
states have a float32 scale for every 256 numbers, and tensors of less than 4096 numbers full ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

DEFAULT = "adamw_torch_fused"
_MOMENTS: Mapping[str, int] = {
    "ademamix": 3,
    "adam": 2,
    "stable_adamw": 2,
    "lion": 1,
    "rmsprop": 1,
    "adagrad": 1,
    "sgd": 0,
}
"""Numbers per learning parameter, by what the optimizer's name begins with."""
_SMALL, _BLOCK = 4096, 256


def optimizer_bytes(name: str, shapes: Sequence[torch.Size]) -> int:
    """Return the bytes of state that ``optim: name`` holds for parameters of ``shapes``.

    An optimizer that is not known here is taken for AdamW.
    """
    plain = name.removeprefix("paged_").removeprefix("schedule_free_")
    if plain.startswith("adafactor"):
        return sum(4 * _factored(shape) for shape in shapes)
    moments = next((n for key, n in _MOMENTS.items() if plain.startswith(key)), 2)
    return int(sum(moments * _moment(plain, math.prod(shape)) for shape in shapes))


def working_bytes(name: str, shapes: Sequence[torch.Size]) -> int:
    """Return the bytes that one step of the optimizer takes besides state and gradients.

    Fused kernels take none. ``foreach`` ones, which accelerators run by default, hold one moment's
    root for all parameters at once.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if name == "adamw_torch":
        return 4 * sum(sizes)
    if name == "adafactor":
        return 2 * 4 * max(sizes, default=0)
    return 0


def _factored(shape: torch.Size) -> int:
    """Numbers that Adafactor keeps: a row's and a column's means of a matrix."""
    if len(shape) < 2:
        return math.prod(shape)
    leading = math.prod(shape[:-2])
    return leading * (shape[-2] + shape[-1])


def _moment(name: str, size: int) -> float:
    """Bytes of one moment of ``size`` numbers."""
    if "4bit" in name:
        return 0.5 * size if size >= _SMALL else 4.0 * size
    if "8bit" in name:
        return size + 4 * size / _BLOCK if size >= _SMALL else 4.0 * size
    return 4.0 * size
