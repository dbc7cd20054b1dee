"""Attention of many short texts that share one beginning: a picture with all of its questions.

A row of T = P + R·S positions holds P positions of the beginning and R slots of S positions; a slot
holds one or several texts. The beginning attends to itself, causally. Every position of a text
attends to the whole beginning and, causally, to its own text, so that each text reads as if it
stood alone behind the beginning. Rows without this structure cost (P + R·S)² products of query and
key, here they cost P² + R·S·(P + S). Source: ours.

Shapes: B rows, T positions, P, R, S as above, h heads, c width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "shared_prefix"
"""Name of this attention, as for ``model.set_attn_implementation``."""

SHARED_PREFIX = "shared_prefix"
"""Keyword of the language model's ``forward`` that carries a ``SharedPrefix``."""


@dataclass(frozen=True)
class SharedPrefix:
    """Where a batch's texts stand.

    ``beginning`` ``[B, P]``: true where the beginning holds a token (it is padded on the right).
    ``slots`` ``[B, R, S, S]``: true where a position (third axis) may read another of its slot.
    """

    beginning: Tensor
    slots: Tensor

    def allowed(self) -> Tensor:
        """``[B, R, S, P + S]``: true where a position of a slot may read."""
        length = self.slots.shape[2]
        first = self.beginning[:, None, None, :].expand(-1, self.slots.shape[1], length, -1)
        return torch.cat([first, self.slots], dim=-1)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    shared_prefix: SharedPrefix | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend in the registry's calling convention; without a ``SharedPrefix`` as ``sdpa`` does.

    ``query`` ``[B, h, T, c]``; keys and values may have fewer heads. Returns ``[B, T, h, c]``.
    """
    if shared_prefix is None:
        output, weights = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output, weights
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    length = shared_prefix.beginning.shape[1]
    first = functional.scaled_dot_product_attention(
        query[:, :, :length],
        key[:, :, :length],
        value[:, :, :length],
        is_causal=True,
        scale=scaling,
    )
    texts = _read_slots(query, key, value, shared_prefix, scaling)
    return torch.cat([first, texts.to(first.dtype)], dim=2).transpose(1, 2), None


def _read_slots(
    query_BhTc: Tensor, key_BhTc: Tensor, value_BhTc: Tensor, shared: SharedPrefix, scaling: float
) -> Tensor:
    """What the positions of all slots read: ``[B, h, R·S, c]``."""
    length = shared.beginning.shape[1]
    slots = tuple(shared.slots.shape[1:3])
    asking = query_BhTc[:, :, length:]
    keys, values = (x[:, :, length:].unflatten(2, slots) for x in (key_BhTc, value_BhTc))
    to_first = (asking @ key_BhTc[:, :, :length].transpose(2, 3)).unflatten(2, slots)
    to_own = asking.unflatten(2, slots) @ keys.transpose(3, 4)
    scores = torch.cat([to_first, to_own], dim=-1) * scaling
    scores = scores.masked_fill(~shared.allowed()[:, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value_BhTc.dtype)
    from_first = weights[..., :length].flatten(2, 3) @ value_BhTc[:, :, :length]
    from_own = (weights[..., length:] @ values).flatten(2, 3)
    return from_first + from_own


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
