"""Slow loops over tiles: tokens as a reader meets them, one reading of a map."""

from __future__ import annotations

from torch import Tensor

from manyeyes.images.tiling import Grid
from manyeyes.layers.tiling import TileLayout


def slow_join(tiles: Tensor, grid: Grid, made: TileLayout, end: Tensor | None) -> list[Tensor]:
    """Token by token, as a reader goes over the picture."""
    (rows, columns), (high, wide) = grid, made.places
    each, found = made.tokens // (high * wide), []
    before = len(tiles) - rows * columns
    for tile in tiles[:before]:
        found += list(tile)
    for y in range(rows * high):
        for x in range(columns * wide):
            tile = tiles[before + (y // high) * columns + x // wide]
            first = ((y % high) * wide + x % wide) * each
            found += list(tile[first : first + each])
        if made.row_ends and rows * columns > 1 and end is not None:
            found.append(end)
    return found


def sampled(grid_map: Tensor, x: float, y: float) -> Tensor:
    """One bilinear reading of a map ``[h, w, D]`` at a place of its square, the border repeated."""
    high, wide = grid_map.shape[:2]
    row = min(max(y * high - 0.5, 0.0), high - 1.0)
    column = min(max(x * wide - 0.5, 0.0), wide - 1.0)
    top, left = int(row), int(column)
    low, right = min(top + 1, high - 1), min(left + 1, wide - 1)
    a, b = row - top, column - left
    upper = grid_map[top, left] * (1 - b) + grid_map[top, right] * b
    lower = grid_map[low, left] * (1 - b) + grid_map[low, right] * b
    return upper * (1 - a) + lower * a
