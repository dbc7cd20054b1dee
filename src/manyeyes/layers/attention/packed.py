"""Attention of several texts that stand one after the other in one row, each for itself.

A row of N = n1 + n2 + ... positions holds whole texts. Every position reads its own text, causally,
and no other, so that each text is read as if it stood alone; positions count from its beginning.
No N x N mask is made: each text is attended to by itself, which costs the sum of n², and all other
layers see N positions without padding. Source: ours; with flash attention ``transformers`` does the
same by its kernel for lengths that differ.

Shapes: B = 1 row, N positions, h heads, c width of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from manyeyes.layers.adapters.side_inputs import Inside

FAMILIES = ("llama", "mistral", "opt", "qwen2", "qwen3")
"""Model types whose attention hands its arguments on as this module needs them."""

KEYWORD = "packed_lengths"
"""Keyword of the language model's ``forward``: the lengths n1, n2, ... of the row's texts."""

PREFIX = "packed_"
NAMES = ("sdpa", "eager")
_LENGTHS: Inside[Sequence[int]] = Inside(KEYWORD)

reading_packed = _LENGTHS.given
"""Let the mask of every forward inside a block of code be left out; with None nothing changes."""


def pack_attention(model: Any) -> None:
    """Make ``model`` attend to packed rows, if it is set to ``sdpa`` or ``eager``.

    Flash attention reads packed rows by their positions already and stays as it is.
    """
    name = str(model.config._attn_implementation)
    if name in NAMES:
        model.set_attn_implementation(PREFIX + name)


def _packed(name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Return attention ``name`` text by text, in the registry's calling convention."""

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        packed_lengths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        plain = sys.modules[type(module).__module__].eager_attention_forward
        own: Any = ALL_ATTENTION_FUNCTIONS.get_interface(name, plain)
        if packed_lengths is None:
            output, weights = own(module, query, key, value, attention_mask, **kwargs)
            return output, weights
        window = kwargs.get("sliding_window")
        texts = zip(
            *(x.split(list(packed_lengths), dim=2) for x in (query, key, value)), strict=True
        )
        found = [own(module, *text, _mask(text[0], name, window), **kwargs)[0] for text in texts]
        return torch.cat(found, dim=1), None

    return attend


def _mask(query: Tensor, name: str, window: int | None) -> Tensor | None:
    """Return the mask ``[1, 1, n, n]`` of one text; None where the kernel is causal by itself."""
    length = query.shape[2]
    windowed = window is not None and length > window
    if name == "sdpa" and not windowed:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
    allowed = ones.tril()
    if windowed and window is not None:
        allowed &= ones.triu(1 - window)
    if name == "sdpa":
        return allowed[None, None]
    lowest = torch.finfo(query.dtype).min
    return torch.zeros_like(allowed, dtype=query.dtype).masked_fill(~allowed, lowest)[None, None]


def _masked(name: str) -> Callable[..., Tensor | None]:
    """Return how masks of attention ``name`` are made: not at all for packed rows."""
    own = ALL_MASK_ATTENTION_FUNCTIONS[name]

    def mask(*args: Any, **kwargs: Any) -> Tensor | None:
        found: Tensor | None = None if _LENGTHS.read(None) is not None else own(*args, **kwargs)
        return found

    return mask


def _register() -> None:
    for name in NAMES:
        AttentionInterface.register(PREFIX + name, _packed(name))
        AttentionMaskInterface.register(PREFIX + name, _masked(name))


_register()
