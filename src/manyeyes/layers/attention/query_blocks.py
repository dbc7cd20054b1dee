"""Learned queries that read a sequence by full self-attention over both (MR-MLLM E4, E5).

Shapes: I images, K queries, M tokens to read, D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyeyes.layers.attention.maps import AttentionSite, attention_weights


class ViTSelfAttention(nn.Module):
    """Multi-head self-attention with one joint projection, as in ViT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_IMD: Tensor, mask_IM: Tensor | None = None) -> Tensor:
        """Return what each position reads of those that ``mask_IM`` (true) leaves, or of all."""
        query, key, value = self._split(x_IMD)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=_keys(mask_IM))
        return self.proj(read.transpose(1, 2).flatten(2))

    def weights(self, x_IMD: Tensor, mask_IM: Tensor | None = None) -> Tensor:
        """Return the attention map ``[I, heads, M, M]``; every row sums to 1. For pictures."""
        query, key, _ = self._split(x_IMD)
        return attention_weights(query, key, _keys(mask_IM))

    def _split(self, x_IMD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``[I, heads, M, D / heads]``."""
        images, length, width = x_IMD.shape
        joint = self.qkv(x_IMD).view(images, length, 3, self.heads, width // self.heads)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        return query, key, value


def _keys(mask_IM: Tensor | None) -> Tensor | None:
    return None if mask_IM is None else mask_IM[:, None, None]


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class ViTBlock(nn.Module):
    """Pre-norm block with the parameter names of timm's, which published checkpoints use."""

    def __init__(self, width: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = ViTSelfAttention(width, heads)
        self.mlp = Mlp(width, ratio)

    def forward(self, x_IMD: Tensor, mask_IM: Tensor | None = None) -> Tensor:
        x = x_IMD + self.attn(self.norm1(x_IMD), mask_IM)
        return x + self.mlp(self.norm2(x))


class QueryBlocks(nn.ModuleList):
    """Blocks over ``[queries; tokens]``; the queries' outputs are kept."""

    def __init__(self, width: int, heads: int, depth: int, ratio: int = 4) -> None:
        super().__init__(ViTBlock(width, heads, ratio) for _ in range(depth))

    def attentions(self, title: str, encoder: str, queries: int) -> tuple[AttentionSite, ...]:
        """Return the attentions of all blocks, whose tokens are those of ``encoder``."""
        modules: list[Any] = [block.attn for block in self]
        return tuple(
            AttentionSite(f"{title}, block {number}", attn, attn.weights, (encoder,), queries)
            for number, attn in enumerate(modules, 1)
        )

    def forward(
        self,
        queries_IKD: Tensor,
        tokens_IMD: Tensor | None = None,
        mask_IM: Tensor | None = None,
    ) -> Tensor:
        """Return the queries after all blocks, ``[I, K, D]``; without tokens, of themselves.

        ``mask_IM``: true = a token that counts; None = all do.
        """
        x = queries_IKD if tokens_IMD is None else torch.cat([queries_IKD, tokens_IMD], dim=1)
        mask = mask_IM
        if mask_IM is not None:
            mask = torch.cat([mask_IM.new_ones(queries_IKD.shape[:2]), mask_IM], dim=1)
        for block in self:
            x = block(x, mask)
        return x[:, : queries_IKD.shape[1]]


def projection(in_width: int, width: int) -> nn.Sequential:
    """Return the map from an encoder's width to the blocks': Linear, LayerNorm."""
    return nn.Sequential(nn.Linear(in_width, width), nn.LayerNorm(width))


def prompt_head(kind: str, width: int, out_width: int) -> nn.Sequential:
    """Return the map to the language width: an MLP (``mlp``) or one ``linear`` layer, LayerNorm."""
    inner = [nn.Linear(width, width), nn.GELU()] if kind == "mlp" else []
    return nn.Sequential(*inner, nn.Linear(width, out_width), nn.LayerNorm(out_width))
