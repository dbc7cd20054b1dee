"""Tokens of tiles become those of pictures, and maps of wholes their parts: against slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from manyeyes.images.tiling import Grid
from manyeyes.layers.tiling import TileLayout, choose_tokens, cut_whole
from manyeyes.records import GridFeatures
from tile_reference import sampled, slow_join

GRIDS = torch.tensor([[1, 2], [1, 1], [2, 2]])


def layout(*, thumbnail: bool = True, row_ends: bool = True, each: int = 1) -> TileLayout:
    return TileLayout(6 * each, (2, 3), 4, thumbnail, row_ends)


@pytest.mark.parametrize("thumbnail", [True, False])
@pytest.mark.parametrize("row_ends", [True, False])
@pytest.mark.parametrize("each", [1, 2])
def test_tiles_are_put_together_as_a_reader_goes(
    thumbnail: bool, row_ends: bool, each: int
) -> None:
    made, end = layout(thumbnail=thumbnail, row_ends=row_ends, each=each), torch.full((5,), -1.0)
    tokens = torch.randn(len(made.owners(GRIDS)), 6 * each, 5)
    joined, first = made.join(tokens, GRIDS, end), 0
    assert [len(one) for one in joined] == made.lengths(GRIDS)
    for one, grid in zip(joined, GRIDS.tolist(), strict=True):
        own = tokens[first : first + made.tiles((grid[0], grid[1]))]
        first += len(own)
        assert torch.equal(one, torch.stack(slow_join(own, (grid[0], grid[1]), made, end)))
    assert first == len(tokens)


def test_counts_by_hand() -> None:
    made = layout()
    assert [made.tiles((1, 1)), made.tiles((1, 2)), made.tiles((2, 2))] == [1, 3, 5]
    # 1 x 1: 6 tokens. 1 x 2: 3 tiles of 6, and 2 rows end. 2 x 2: 5 tiles of 6, and 4 rows end.
    assert made.lengths(GRIDS) == [20, 6, 34]
    # 4 x 1: 5 tiles of 6, and 8 rows end
    assert (made.longest, made.largest) == (38, (4, 1))
    assert made.owners(GRIDS) == [0, 0, 0, 1, 2, 2, 2, 2, 2]


def test_chosen_images_take_their_tiles_along() -> None:
    made = layout(row_ends=False)
    tokens = torch.randn(9, 6, 5)
    chosen, grids = choose_tokens(tokens, GRIDS, [2, 0, 2], made)
    assert grids is not None and grids.tolist() == [[2, 2], [1, 2], [2, 2]]
    joined, every = made.join(chosen, grids, None), made.join(tokens, GRIDS, None)
    expected = [every[2], every[0], every[2]]
    assert all(torch.equal(a, b) for a, b in zip(joined, expected, strict=True))
    plain, nothing = choose_tokens(tokens, None, [4, 4], None)
    assert nothing is None and torch.equal(plain, tokens[[4, 4]])


def whole(grid: Grid, images: int, width: int = 3) -> GridFeatures:
    return GridFeatures((torch.randn(images, math.prod(grid), width),), (0,), grid)


def test_a_whole_as_fine_as_its_tiles_is_only_cut() -> None:
    made = layout(thumbnail=False)
    found = whole((4, 6), images=1)
    views = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    parts = cut_whole(found, made, torch.tensor([[2, 2]]), views, (2, 3), "bilinear")
    assert parts.grid == (2, 3) and parts.levels[0].shape == (4, 6, 3)
    joined = made.join(parts.levels[0], torch.tensor([[2, 2]]), None)
    torch.testing.assert_close(joined[0], found.levels[0][0])


def test_thumbnails_and_single_tiles_are_the_map_itself() -> None:
    made = layout()
    found = whole((2, 3), images=3)
    views = torch.rand(3, 4)
    parts = cut_whole(found, made, GRIDS, views, (2, 3), "bilinear").levels[0]
    assert [made.owners(GRIDS)[tile] for tile in (0, 3, 4)] == [0, 1, 2]
    for tile, image in ((0, 0), (3, 1), (4, 2)):
        assert torch.equal(parts[tile], found.levels[0][image])


def test_parts_are_read_where_they_lie_in_the_square() -> None:
    made = layout(thumbnail=False)
    found = whole((4, 4), images=1)
    view = (-0.1, 0.2, 1.1, 0.8)
    parts = cut_whole(
        found, made, torch.tensor([[1, 2]]), torch.tensor([view]), (2, 3), "bilinear"
    ).levels[0]
    square = found.levels[0][0].unflatten(0, (4, 4))
    for tile in range(2):
        for row in range(2):
            for column in range(3):
                x = view[0] + (tile * 3 + column + 0.5) / 6 * (view[2] - view[0])
                y = view[1] + (row + 0.5) / 2 * (view[3] - view[1])
                expected = read_place(square, x, y)
                torch.testing.assert_close(parts[tile, row * 3 + column], expected)


def read_place(square: Tensor, x: float, y: float) -> Tensor:
    """1.2 patches lie on a place from top to bottom: it is the mean of 2 x 2 readings."""
    down, across = 0.6 / 2 / 4, 1.2 / 6 / 4
    return torch.stack(
        [sampled(square, x + a * across, y + b * down) for a in (-1, 1) for b in (-1, 1)]
    ).mean(dim=0)


def test_a_fine_map_is_averaged_and_no_patch_is_skipped() -> None:
    made = layout(thumbnail=False)
    found = whole((8, 12), images=1)
    views = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    parts = cut_whole(found, made, torch.tensor([[2, 2]]), views, (2, 3), "area").levels[0]
    (joined,) = made.join(parts, torch.tensor([[2, 2]]), None)
    blocks = found.levels[0][0].unflatten(0, (4, 2, 6, 2)).mean(dim=(1, 3))
    torch.testing.assert_close(joined, blocks.flatten(0, 1))


def test_prefix_tokens_are_repeated() -> None:
    made = layout()
    found = whole((2, 3), images=3)
    prefix = torch.randn(3, 1, 3)
    features = GridFeatures(found.levels, (0,), (2, 3), (prefix,))
    parts = cut_whole(features, made, GRIDS, torch.rand(3, 4), (2, 3), "bilinear")
    assert torch.equal(parts.prefix[0], prefix[made.owners(GRIDS)])
