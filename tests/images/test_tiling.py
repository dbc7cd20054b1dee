"""Which grid suits a picture, worked by hand; how a picture is fitted to it and cut."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from manyeyes.errors import RecipeError
from manyeyes.images.reading import fit_image
from manyeyes.images.tiling import (
    TilingOptions,
    best_grid,
    canvas_map,
    cut_canvas,
    fit_canvas,
    grids,
    part_of_square,
)
from manyeyes.options import parse_options

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((336, 336), (1, 1)),  # all of it is kept in one tile
        ((100, 50), (1, 1)),  # a small picture gains nothing
        ((672, 672), (2, 2)),
        ((1000, 1000), (2, 2)),  # 2 x 2 keeps 672², no other grid of four more than 336²
        ((1000, 500), (1, 2)),  # 672 x 336 are kept, as in 2 x 2, which leaves half empty
        ((500, 1000), (2, 1)),
        ((1344, 336), (1, 4)),
        ((10_000, 50), (1, 4)),
        ((672, 400), (2, 2)),  # 2 x 2 keeps all of it, 1 x 2 only 336 of the 400 rows
        ((800, 600), (2, 2)),
    ],
)
def test_the_best_of_four_tiles(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert best_grid(size, 336, 4) == grid


def test_a_limit_of_tiles_is_kept_and_every_grid_takes_part() -> None:
    assert sorted(grids(4)) == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]
    assert best_grid((900, 900), 100, 1) == (1, 1)
    assert best_grid((600, 400), 200, 6) == (2, 3)
    # 3 x 2: scale 2/3 keeps 400 x 266.7; 2 x 2 the same with less waste; 1 x 3: scale 1/2
    assert best_grid((600, 400), 200, 5) == (2, 2)


def test_the_choice_is_that_of_a_slow_search() -> None:
    """The published rule, with floats: keep most, waste least."""
    random = np.random.default_rng(0)
    for _ in range(200):
        width, height = (int(x) for x in random.integers(10, 900, 2))
        found = []
        for rows, columns in grids(6):
            scale = min(columns * 64 / width, rows * 64 / height)
            kept = min(width * scale * height * scale, width * height)
            found.append((round(kept, 6), -round(rows * columns * 64 * 64 - kept, 6)))
        rows, columns = best_grid((width, height), 64, 6)
        assert found[list(grids(6)).index((rows, columns))] == max(found)


@pytest.mark.parametrize("geometry", ["pad", "squash", "crop"])
@pytest.mark.parametrize("size", [(37, 20), (20, 37), (90, 90), (10_000, 50), (3, 700)])
def test_a_canvas_has_its_size_and_one_tile_is_the_square(
    geometry: str, size: tuple[int, int]
) -> None:
    picture = Image.new("RGB", size, RED)
    for grid in grids(4):
        canvas = (grid[1] * 16, grid[0] * 16)
        assert fit_canvas(picture, canvas, geometry=geometry).size == canvas
    assert fit_image(picture, 16, geometry=geometry).size == (16, 16)


def test_a_picture_of_the_canvas_size_is_cut_and_put_together_again() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    for geometry in ("pad", "squash", "crop"):
        tiles = cut_canvas(fit_canvas(picture, (48, 32), geometry=geometry), 16)
        assert [tile.size for tile in tiles] == [(16, 16)] * 6
        rows = [np.concatenate([np.asarray(t) for t in tiles[i : i + 3]], 1) for i in (0, 3)]
        assert np.array_equal(np.concatenate(rows, 0), pixels)


def test_padding_is_centred_and_coordinates_go_there_and_back() -> None:
    picture = Image.new("RGB", (30, 10), RED)
    laid = fit_canvas(picture, (40, 40), geometry="pad", color=GREEN)
    # scale 4/3: 40 x 13 pixels, 13 rows of bars above
    assert laid.getpixel((20, 12)) == GREEN and laid.getpixel((20, 13)) == RED
    assert laid.getpixel((0, 25)) == RED and laid.getpixel((0, 26)) == GREEN
    for geometry in ("pad", "squash", "crop"):
        found = canvas_map((30, 10), (40, 40), geometry)
        assert found.invert(found.apply((3.0, 2.0, 9.0, 8.0))) == pytest.approx((3, 2, 9, 8))


def test_the_part_of_the_square_that_tiles_show() -> None:
    # a wide picture of just the canvas's aspect: the middle half of its padded square
    assert part_of_square((200, 100), (32, 16), "pad") == pytest.approx((0.0, 0.25, 1.0, 0.75))
    # 150 x 100 in a canvas of 2 to 1 shows 200 x 100 pixels around it, the square 150 x 150
    wide = part_of_square((150, 100), (32, 16), "pad")
    assert wide == pytest.approx((-25 / 150, 25 / 150, 175 / 150, 125 / 150))
    assert part_of_square((150, 100), (32, 16), "squash") == (0.0, 0.0, 1.0, 1.0)
    assert part_of_square((90, 90), (32, 32), "crop") == pytest.approx((0.0, 0.0, 1.0, 1.0))


def test_bad_values_are_named() -> None:
    for values, message in {
        "most": ({"most": 0}, r"tiling\.most: 0 is not a whole number of at least 1"),
        "separator": ({"separator": "rows"}, r"tiling\.separator: 'rows' is not one of .*'row'"),
        "key": ({"mots": 4}, "unknown key 'mots'.*most"),
        "thumbnail": ({"thumbnail": "yes"}, r"tiling\.thumbnail: 'yes' is not one of"),
    }.values():
        with pytest.raises(RecipeError, match=message):
            parse_options(TilingOptions, values, "tiling")
