"""Queries that read several feature maps, each query its own window of each map (Cambrian-1 §4).

    a  = W_in [x ; W_c c]                                         c: of the whole image, if given
    x' = LN(a + W_o softmax(q [k_1, ..., k_E]ᵀ / √d) [v_1, ..., v_E])
    x* = x + MLP(x')
    q  = W_q LN(a)     k_e = W_k,e LN(F_e + P_e)     v_e = W_v,e LN(F_e + P_e)

Softmax over the windows of all encoders together, one W_k and W_v per encoder: the paper's
equation. Heads, norms, residuals, MLP, c and the learned places P in a window of more than one
patch: as in its released model, without biases.

Shapes: B windows (images x places), S patches of a window, E encoders, D width, h heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class WindowShape:
    """width: D. heads: h. sizes: S of each encoder by its name. context: whether c is given."""

    width: int
    heads: int
    sizes: Mapping[str, int]
    context: bool


class WindowLayer(nn.Module):
    """One reading of the windows by one query each."""

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.context = nn.Linear(width, width, bias=False) if shape.context else None
        self.enter = nn.Linear((1 + shape.context) * width, width, bias=False)
        self.places = nn.ParameterDict(
            {name: torch.randn(size, width) for name, size in shape.sizes.items() if size > 1}
        )
        self.query = _normed(width)
        self.keys = nn.ModuleDict({name: _normed(width) for name in shape.sizes})
        self.values = nn.ModuleDict({name: _normed(width) for name in shape.sizes})
        self.out = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
        )

    def forward(
        self, x_BD: Tensor, windows_BSD: Mapping[str, Tensor], context_BD: Tensor | None = None
    ) -> Tensor:
        """Return the queries after reading ``windows_BSD``, each ``[B, S, D]``: ``[B, D]``."""
        entering = [x_BD] if self.context is None else [x_BD, self.context(context_BD)]
        a_BD = self.enter(torch.cat(entering, dim=-1))
        read = self.norm(a_BD + self.read(a_BD, windows_BSD))
        return x_BD + self.mlp(read)

    def read(self, a_BD: Tensor, windows_BSD: Mapping[str, Tensor]) -> Tensor:
        """Return what the attention alone gives, ``[B, D]``."""
        placed = {
            name: window + self.places[name].to(window.dtype) if name in self.places else window
            for name, window in windows_BSD.items()
        }
        keys = torch.cat([self.keys[name](window) for name, window in placed.items()], dim=1)
        values = torch.cat([self.values[name](window) for name, window in placed.items()], dim=1)
        query = self._split(self.query(a_BD)[:, None])
        mixed = F.scaled_dot_product_attention(query, self._split(keys), self._split(values))
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(1))
        return out

    def _split(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class WindowLayers(nn.ModuleList):
    """``depth`` readings one after the other, of the same windows."""

    def __init__(self, shape: WindowShape, depth: int) -> None:
        super().__init__(WindowLayer(shape) for _ in range(depth))

    def forward(
        self, x_BD: Tensor, windows_BSD: Mapping[str, Tensor], context_BD: Tensor | None = None
    ) -> Tensor:
        """Return the queries after all readings, ``[B, D]``."""
        for layer in self:
            x_BD = layer(x_BD, windows_BSD, context_BD)
        return x_BD


def _normed(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))
