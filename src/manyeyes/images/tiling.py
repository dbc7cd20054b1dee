"""Pictures in tiles: which grid suits a picture, and how it is fitted to that grid.

    picture ─best grid→ rows x columns of tiles ─fitted→ canvas ─cut→ tiles, row by row

Sizes are (width, height) in pixels, grids are (rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from PIL import Image

from manyeyes.images.reading import WHITE, BoxMap, Color, box_map
from manyeyes.options import check_choice, check_counts
from manyeyes.records import Box

SEPARATORS = ("row", "none")

Grid = tuple[int, int]
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TilingOptions:
    """How pictures are cut into tiles, as many as suit each of them (AnyRes of LLaVA-NeXT)."""

    most: int = 4
    """Largest number of tiles of a picture, rows times columns, the thumbnail not counted."""
    thumbnail: bool = True
    """The whole picture at the size of one tile stands before its tiles."""
    separator: str = "row"
    """``row`` puts a learned vector after each row of the map that the tiles make together.
    ``none`` leaves it out."""

    def __post_init__(self) -> None:
        check_counts("tiling", most=self.most)
        check_choice("tiling", "thumbnail", self.thumbnail, (True, False))
        check_choice("tiling", "separator", self.separator, SEPARATORS)


def grids(most: int) -> Iterator[Grid]:
    """Yield every grid of at most so many tiles."""
    for rows in range(1, most + 1):
        for columns in range(1, most // rows + 1):
            yield rows, columns


@lru_cache(maxsize=65536)
def best_grid(size: Size, side: int, most: int) -> Grid:
    """Return the grid of at most ``most`` tiles of ``side`` pixels that suits a picture best.

    It is the one that keeps most of the picture's pixels when it is fitted inside, and of those
    the one that leaves the fewest pixels of the tiles empty. Enlarging keeps no more than all of
    its pixels. Source: LLaVA-NeXT's choice of the best resolution; that every grid takes part, the
    single tile too, is ours.
    """
    return max(grids(most), key=lambda grid: _worth(size, side, grid))


def _worth(size: Size, side: int, grid: Grid) -> tuple[Fraction, Fraction]:
    """Pixels of the picture that are kept, and, negative, those of the tiles that are empty."""
    (width, height), (rows, columns) = size, grid
    scale = min(Fraction(columns * side, width), Fraction(rows * side, height), Fraction(1))
    kept = width * height * scale**2
    return kept, kept - rows * columns * side**2


def canvas_map(size: Size, canvas: Size, geometry: str) -> BoxMap:
    """Return what `fit_canvas` does to the coordinates of a picture."""
    (width, height), (wide, high) = size, canvas
    if geometry == "squash":
        return BoxMap(wide / width, high / height, 0.0, 0.0)
    if geometry == "pad":
        new_width, new_height = _inside(size, canvas)
        left, top = (wide - new_width) // 2, (high - new_height) // 2
        return BoxMap(new_width / width, new_height / height, float(left), float(top))
    scale = max(wide / width, high / height)
    return BoxMap(scale, scale, (wide - width * scale) / 2, (high - height * scale) / 2)


def fit_canvas(
    image: Image.Image,
    canvas: Size,
    *,
    geometry: str,
    color: Color = WHITE,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Fit an RGB image to a canvas as `fit_image` fits it to a square: pad, squash or crop."""
    if geometry == "squash":
        return image.resize(canvas, resample)
    if geometry == "pad":
        inside, found = _inside(image.size, canvas), canvas_map(image.size, canvas, geometry)
        laid = Image.new("RGB", canvas, color)
        laid.paste(image.resize(inside, resample), (int(found.shift_x), int(found.shift_y)))
        return laid
    left, top, right, bottom = canvas_map(image.size, canvas, geometry).invert(_corners(canvas))
    width, height = image.size
    part = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    return image.resize(canvas, resample, box=part)


def cut_canvas(canvas: Image.Image, side: int) -> list[Image.Image]:
    """Cut a canvas into its tiles of ``side`` x ``side`` pixels, row by row."""
    width, height = canvas.size
    return [
        canvas.crop((left, top, left + side, top + side))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def part_of_square(size: Size, canvas: Size, geometry: str) -> Box:
    """Return the part of the picture's square that a canvas shows: x1, y1, x2, y2.

    The square is what `fit_image` makes of the picture, from 0 to 1 in both directions. The part
    reaches beyond it where the canvas has bars that the square lacks.
    """
    unit = 1024
    shown = canvas_map(size, canvas, geometry).invert(_corners(canvas))
    x1, y1, x2, y2 = box_map(*size, unit, geometry=geometry).apply(shown)
    return x1 / unit, y1 / unit, x2 / unit, y2 / unit


def _corners(canvas: Size) -> Box:
    return 0.0, 0.0, float(canvas[0]), float(canvas[1])


def _inside(size: Size, canvas: Size) -> Size:
    """The largest size of the same aspect that fits into a canvas, whole pixels, at least 1."""
    (width, height), (wide, high) = size, canvas
    scale = min(wide / width, high / height)
    return max(1, min(wide, round(width * scale))), max(1, min(high, round(height * scale)))
