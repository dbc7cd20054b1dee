"""Positions of patches on a grid, as sines and cosines. Shapes: N patches, D width."""

from __future__ import annotations

import torch
from torch import Tensor

from manyeyes.errors import PartError

SLOWEST = 100.0
"""Ratio of the fastest wave to the slowest (ours). Over grids of 8 to 40 patches the usual 10,000
would leave most waves constant."""


def wave_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return ``[N, D]`` float32, row by row: half of the width tells the row, half the column.

    Each half holds sines, then cosines of the index at frequencies from 1 down to 1/``SLOWEST``,
    laid out as in MAE; root mean square 0.707. A width that is no multiple of four gets zeros at
    its end.
    """
    quarter = width // 4
    frequencies = SLOWEST ** -(torch.arange(quarter) / max(1, quarter))
    halves = []
    for count in (rows, columns):
        angles = torch.arange(count)[:, None] * frequencies
        halves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    of_row = halves[0][:, None].expand(rows, columns, -1)
    of_column = halves[1][None, :].expand(rows, columns, -1)
    table = torch.cat([of_row, of_column], dim=-1).flatten(0, 1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1]))


def add_waves(tokens_INW: Tensor, grid: tuple[int, int]) -> Tensor:
    """Add ``wave_positions`` to patches, the last of N; class and register tokens stay.

    Raises:
        PartError: patches are missing, as where some were hidden.
    """
    rows, columns = grid
    if tokens_INW.shape[1] < rows * columns:
        raise PartError(
            f"fusion.image_positions: waves need all {rows * columns} patches, got "
            f"{tokens_INW.shape[1]} tokens"
        )
    waves = wave_positions(rows, columns, tokens_INW.shape[-1]).to(tokens_INW)
    before = tokens_INW.shape[1] - rows * columns
    return tokens_INW + torch.nn.functional.pad(waves, (0, 0, before, 0))


def visual_positions(embeddings_VD: Tensor, rows: int, columns: int) -> Tensor:
    """Return ``wave_positions`` brought to the root mean square of a language model's embeddings.

    So they weigh as much as words do, whichever language model reads them.
    """
    table = wave_positions(rows, columns, embeddings_VD.shape[1]).to(embeddings_VD.device)
    size = embeddings_VD.float().square().mean().sqrt()
    return table * (size / table.square().mean().sqrt())
