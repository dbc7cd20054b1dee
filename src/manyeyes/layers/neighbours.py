"""Tokens of a grid that see the tokens around them. Shapes: I images, N cells, H width."""

from __future__ import annotations

from torch import Tensor, nn

from manyeyes.layers.mlp import ZeroLinear


class NeighbourMix(nn.Module):
    """``x + W · GELU(conv(LN(x)))`` with a square kernel over the grid; starts as the identity.

    An object that covers a few patches can then be read from any of them. Source: ours; Honeybee's
    C-Abstractor (arXiv 2312.06742) shows that convolutions in a projector keep places.
    """

    def __init__(self, width: int, grid: tuple[int, int], kernel: int) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.out = ZeroLinear(width, width)

    def forward(self, tokens_INH: Tensor) -> Tensor:
        """Return the mixed tokens, same shape."""
        board = self.norm(tokens_INH).transpose(1, 2).unflatten(2, self.grid)
        mixed = nn.functional.gelu(self.conv(board)).flatten(2).transpose(1, 2)
        mixed_INH: Tensor = tokens_INH + self.out(mixed)
        return mixed_INH
