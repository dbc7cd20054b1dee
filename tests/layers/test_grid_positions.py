"""Positions on a grid: one vector a cell, near cells alike, of a language model's size."""

from __future__ import annotations

import math

import pytest
import torch

from manyeyes.errors import PartError
from manyeyes.layers.grid_positions import (
    SLOWEST,
    add_waves,
    visual_positions,
    wave_positions,
)


def test_waves_are_those_of_the_formula() -> None:
    table = wave_positions(3, 5, 16)
    assert table.shape == (15, 16)
    row, column = 2, 3
    expected = [
        wave(index * SLOWEST ** -(k / 4))
        for index in (row, column)
        for wave in (math.sin, math.cos)
        for k in range(4)
    ]
    torch.testing.assert_close(table[row * 5 + column], torch.tensor(expected))


@pytest.mark.parametrize("width", [4, 7, 192])
def test_every_cell_has_its_own_and_near_ones_are_alike(width: int) -> None:
    table = wave_positions(8, 8, width)
    assert table.shape == (64, width)
    distances = torch.cdist(table, table)
    assert float(distances[~torch.eye(64, dtype=torch.bool)].min()) > 0.1
    assert distances[0, 1] < distances[0, 3] and distances[0, 8] < distances[0, 24]


def test_visual_positions_weigh_as_much_as_words() -> None:
    words = 0.03 * torch.randn(100, 32, generator=torch.Generator().manual_seed(0))
    found = visual_positions(words, 4, 6)
    assert float(found.square().mean().sqrt()) == pytest.approx(
        float(words.square().mean().sqrt()), rel=1e-5
    )


def test_waves_are_added_to_patches_and_to_nothing_before_them() -> None:
    tokens = torch.randn(3, 2 + 15, 16, generator=torch.Generator().manual_seed(0))
    added = add_waves(tokens, (3, 5)) - tokens
    assert torch.equal(added[:, :2], torch.zeros(3, 2, 16))
    torch.testing.assert_close(added[:, 2:], wave_positions(3, 5, 16).expand(3, -1, -1))
    with pytest.raises(PartError, match=r"need all 15 patches, got 9"):
        add_waves(tokens[:, :9], (3, 5))
