"""Transformer blocks that read another sequence: attention, residual, norm, feed-forward.

post-norm (as BERT)   x ← LN(x + Attn(x, y));  x ← LN(x + FFN(x))
                      no mask unless one is given: self-attention is not causal (LION §9.1)
pre-norm              x ← x + Attn(LN(x), y);  x ← x + FFN(LN(x)), last projections starting at 0,
                      so that a fresh block is the identity

Shapes: B samples, X and Y positions, D and C widths of x and y, h heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyeyes.layers.attention.maps import attention_weights
from manyeyes.layers.normal_linear import NormalLinear

EPS = 1e-12
"""Of every LayerNorm, as in BERT."""


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """Sizes of a block: ``inner`` is the width of queries, keys and values, ``ffn`` 0 = none.

    ``zero_last``: the last projections start at zero, as those of pre-norm blocks always do.
    """

    width: int
    context: int
    inner: int
    heads: int
    ffn: int = 0
    self_attention: bool = False
    pre_norm: bool = False
    dropout: float = 0.1
    zero_last: bool = False

    @property
    def starts_at_zero(self) -> bool:
        """Whether a fresh sub-layer adds nothing."""
        return self.pre_norm or self.zero_last


class Attention(nn.Module):
    """Multi-head attention of x ``[B, X, D]`` over y ``[B, Y, C]``, back to width D."""

    def __init__(self, shape: BlockShape, context: int) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.query = NormalLinear(shape.width, shape.inner)
        self.key = NormalLinear(context, shape.inner)
        self.value = NormalLinear(context, shape.inner)
        self.out = NormalLinear(shape.inner, shape.width, zero=shape.starts_at_zero)

    def forward(self, x_BXD: Tensor, y_BYC: Tensor, mask_BXY: Tensor | None = None) -> Tensor:
        """``mask_BXY``: bool ``[B, 1, X, Y]`` or broadcastable, true = may be read."""
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(x_BXD)),
            self._split(self.key(y_BYC)),
            self._split(self.value(y_BYC)),
            attn_mask=mask_BXY,
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def weights(self, x_BXD: Tensor, y_BYC: Tensor, mask_BXY: Tensor | None = None) -> Tensor:
        """Return the attention map ``[B, h, X, Y]``; every row sums to 1. For pictures."""
        query, key = self._split(self.query(x_BXD)), self._split(self.key(y_BYC))
        return attention_weights(query, key, mask_BXY)

    def _split(self, x_BXD: Tensor) -> Tensor:
        return x_BXD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SelfAttention(Attention):
    """Attention of a sequence over itself."""

    def forward(self, x_BXD: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x_BXD, x_BXD)


class Residual(nn.Module):
    """One change of x with its residual, dropout and norm."""

    def __init__(self, change: nn.Module, shape: BlockShape) -> None:
        super().__init__()
        self.change, self.pre_norm = change, shape.pre_norm
        self.norm = nn.LayerNorm(shape.width, EPS)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x_BXD: Tensor, *context: Tensor | None) -> Tensor:
        if self.pre_norm:
            return x_BXD + self.drop(self.change(self.norm(x_BXD), *context))
        return self.norm(x_BXD + self.drop(self.change(x_BXD, *context)))


class CrossAttentionBlock(nn.Module):
    """Optional self-attention, cross-attention and optional feed-forward."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        own = SelfAttention(shape, shape.width) if shape.self_attention else None
        self.own = None if own is None else Residual(own, shape)
        self.cross = Residual(Attention(shape, shape.context), shape)
        self.ffn = Residual(_feed_forward(shape), shape) if shape.ffn else None

    def forward(self, x_BXD: Tensor, y_BYC: Tensor, mask_BXY: Tensor | None = None) -> Tensor:
        """Return x after reading y, ``[B, X, D]``; ``mask_BXY`` is that of the cross-attention."""
        x = x_BXD if self.own is None else self.own(x_BXD)
        x = self.cross(x, y_BYC, mask_BXY)
        return x if self.ffn is None else self.ffn(x)


def _feed_forward(shape: BlockShape) -> nn.Sequential:
    return nn.Sequential(
        NormalLinear(shape.width, shape.ffn),
        nn.GELU(),
        NormalLinear(shape.ffn, shape.width, zero=shape.starts_at_zero),
    )


def causal_context_mask(prefix: int, text_mask_BT: Tensor) -> Tensor:
    """Return bool ``[B, 1, T, prefix + T]``: text reads the whole prefix and its own past."""
    batch, length = text_mask_BT.shape
    past = torch.ones(length, length, dtype=torch.bool, device=text_mask_BT.device).tril()
    text = past & text_mask_BT.bool()[:, None, :]
    seen = torch.ones(batch, length, prefix, dtype=torch.bool, device=text.device)
    return torch.cat([seen, text], dim=-1)[:, None]
