"""Pictures in tiles: what encoders give of tiles, and how tiles' tokens become those of pictures.

Shapes: I images, J tiles of all of them (the thumbnail of an image first, then its tiles row by
row), N patches of a tile, D width, K visual tokens of a tile, H language-model width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from manyeyes.images.tiling import Grid, grids
from manyeyes.layers.patches import resample_grid
from manyeyes.records import GridFeatures

_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class TileLayout:
    """How the tokens of its tiles stand for a picture.

    ``tokens``: K. ``places``: rows and columns of the places that the tokens of a tile stand at,
    row by row. ``most``, ``thumbnail``: see ``TilingOptions``. ``row_ends``: a separator follows
    each row of places. A picture in a single tile has no thumbnail and no separators: it stands in
    the text as it does in a model without tiles (ours).
    """

    tokens: int
    places: Grid
    most: int
    thumbnail: bool
    row_ends: bool

    def tiles(self, grid: Grid) -> int:
        """Return the tiles of a picture, its thumbnail among them."""
        count = math.prod(grid)
        return count + int(self.thumbnail and count > 1)

    def length(self, grid: Grid) -> int:
        """Return the visual tokens of a picture, its separators among them."""
        ends = grid[0] * self.places[0] if self.row_ends and math.prod(grid) > 1 else 0
        return self.tiles(grid) * self.tokens + ends

    @property
    def longest(self) -> int:
        """The most visual tokens that a picture can have."""
        return max(map(self.length, grids(self.most)))

    @property
    def largest(self) -> Grid:
        """The grid with the most visual tokens."""
        return max(grids(self.most), key=self.length)

    def lengths(self, grids_I2: Tensor) -> list[int]:
        """Return the visual tokens of each picture."""
        return [self.length(grid) for grid in as_grids(grids_I2)]

    def owners(self, grids_I2: Tensor) -> list[int]:
        """Return for each tile the picture that it belongs to, ``[J]``."""
        counts = map(self.tiles, as_grids(grids_I2))
        return [image for image, count in enumerate(counts) for _ in range(count)]

    def parts(self, grids_I2: Tensor, views_I4: Tensor) -> list[tuple[float, ...]]:
        """Return for each tile what it shows of its picture's square, ``[J, 4]``.

        ``views_I4``: what all tiles of each picture show together, see ``part_of_square``.
        """
        found: list[tuple[float, ...]] = []
        for grid, view in zip(as_grids(grids_I2), views_I4.tolist(), strict=True):
            found += [_WHOLE] * (self.tiles(grid) - math.prod(grid))
            found += [_WHOLE] if math.prod(grid) == 1 else _cut(grid, view)
        return found

    def join(self, tokens_JKH: Tensor, grids_I2: Tensor, end_H: Tensor | None) -> list[Tensor]:
        """Return the tokens of each picture ``[length, H]``: the thumbnail's, then those of the map
        that its tiles make together, row by row; ``end_H``: the separator."""
        found, first = [], 0
        for grid in as_grids(grids_I2):
            own = tokens_JKH[first : first + self.tiles(grid)]
            first += len(own)
            before = len(own) - math.prod(grid)
            parts = [*own[:before], self._map(own[before:], grid, end_H)]
            found.append(torch.cat(parts) if before else parts[0])
        return found

    def _map(self, tiles: Tensor, grid: Grid, end_H: Tensor | None) -> Tensor:
        """One map of all tiles ``[rows · columns, K, H]``, a separator behind each of its rows."""
        if len(tiles) == 1:
            return tiles[0]
        (rows, columns), high = grid, self.places[0]
        lines = tiles.unflatten(1, (high, -1)).unflatten(0, (rows, columns))
        lines = lines.transpose(1, 2).flatten(0, 1).flatten(1, 2)
        if self.row_ends and end_H is not None:
            ends = end_H.to(lines.dtype).expand(len(lines), 1, -1)
            lines = torch.cat([lines, ends], dim=1)
        return lines.flatten(0, 1)


def as_grids(grids_I2: Tensor) -> list[Grid]:
    """Return the rows and columns of each picture."""
    return [(int(rows), int(columns)) for rows, columns in grids_I2.tolist()]


def choose_tokens(
    tokens: Tensor, grids_I2: Tensor | None, images: Sequence[int], layout: TileLayout | None
) -> tuple[Tensor, Tensor | None]:
    """Return copies of the tokens of some images, which may repeat, and the grids of their tiles.

    ``tokens``: ``[I, K, H]``, or of tiles ``[J, K, H]`` where there are ``grids_I2``.
    """
    rows = list(images)
    if grids_I2 is None or layout is None:
        return tokens[rows], None
    tiles: dict[int, list[int]] = {}
    for tile, owner in enumerate(layout.owners(grids_I2)):
        tiles.setdefault(owner, []).append(tile)
    return tokens[[tile for image in rows for tile in tiles[image]]], grids_I2[rows]


def cut_whole(
    features: GridFeatures,
    layout: TileLayout,
    grids_I2: Tensor,
    views_I4: Tensor,
    target: Grid,
    mode: str,
) -> GridFeatures:
    """Cut what an encoder gives of whole pictures into its part of each tile: I → J rows.

    ``target``: rows and columns of a tile's map. ``mode``: how a map is resized for thumbnails, see
    ``resample_grid``; the other parts are read by bilinear sampling, and their average where a
    place covers several patches. Prefix tokens are repeated. Source: ours.
    """
    owners, parts = layout.owners(grids_I2), layout.parts(grids_I2, views_I4)
    cut = [tile for tile, part in enumerate(parts) if part != _WHOLE]

    def read(level_IND: Tensor) -> Tensor:
        whole = level_IND
        if features.grid != target:
            whole = resample_grid(level_IND, features.grid, target, mode)
        tiles_JND = whole[owners]
        if not cut:
            return tiles_JND
        sources = level_IND[[owners[tile] for tile in cut]]
        found = _sampled(sources, features.grid, [parts[tile] for tile in cut], target)
        return tiles_JND.index_copy(0, torch.tensor(cut, device=found.device), found)

    return replace(
        features,
        levels=tuple(read(level) for level in features.levels),
        grid=target,
        prefix=tuple(prefix[owners] for prefix in features.prefix),
    )


def _cut(grid: Grid, view: Sequence[float]) -> list[tuple[float, ...]]:
    """The parts of the tiles of one picture, row by row."""
    (rows, columns), (x1, y1, x2, y2) = grid, view
    wide, high = (x2 - x1) / columns, (y2 - y1) / rows
    return [
        (x1 + column * wide, y1 + row * high, x1 + (column + 1) * wide, y1 + (row + 1) * high)
        for row in range(rows)
        for column in range(columns)
    ]


def _sampled(
    maps_JND: Tensor, grid: Grid, parts: Sequence[Sequence[float]], target: Grid
) -> Tensor:
    """Read one part of each map at ``target`` places ``[J, target rows · columns, D]``.

    Beyond the map its border goes on.
    """
    maps_JDhw = maps_JND.transpose(1, 2).unflatten(2, grid).float()
    finer = [_finer(part, grid, target) for part in parts]
    found = maps_JDhw.new_zeros(len(parts), maps_JDhw.shape[1], *target)
    for factor in sorted(set(finer)):
        chosen = [place for place, one in enumerate(finer) if one == factor]
        places = torch.stack([_places(parts[place], target, factor) for place in chosen])
        read = functional.grid_sample(
            maps_JDhw[chosen],
            places.to(maps_JDhw.device),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        rows = torch.tensor(chosen, device=read.device)
        found = found.index_copy(0, rows, functional.avg_pool2d(read, factor))
    return found.flatten(2).transpose(1, 2).to(maps_JND.dtype)


def _finer(part: Sequence[float], grid: Grid, target: Grid) -> int:
    """How many points in each direction are averaged for a place, so that no patch is skipped."""
    x1, y1, x2, y2 = part
    patches = max((y2 - y1) * grid[0] / target[0], (x2 - x1) * grid[1] / target[1])
    return max(1, math.ceil(patches - 1e-4))


def _places(part: Sequence[float], target: Grid, factor: int) -> Tensor:
    """Where a part is read: ``[rows · factor, columns · factor, 2]``, x and y from -1 to 1."""
    x1, y1, x2, y2 = part
    rows, columns = target[0] * factor, target[1] * factor
    y = y1 + (torch.arange(rows) + 0.5) / rows * (y2 - y1)
    x = x1 + (torch.arange(columns) + 0.5) / columns * (x2 - x1)
    across, down = torch.meshgrid(x, y, indexing="xy")
    return torch.stack([across, down], dim=-1) * 2.0 - 1.0
