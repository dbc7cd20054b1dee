"""Operations on patch grids. Shapes: I images, N patches (rows x columns, row-major), D width."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from manyeyes.errors import PartError


def resample_grid(
    patches_IND: Tensor, grid: tuple[int, int], target: tuple[int, int], mode: str
) -> Tensor:
    """Resample ``[I, N, D]`` features from ``grid`` to ``target`` (rows, columns).

    ``mode``: ``bilinear``, ``bicubic`` (antialiased when shrinking) or ``area``. Source: ours.
    """
    rows, columns = grid
    images, _, width = patches_IND.shape
    grid_IDhw = patches_IND.transpose(1, 2).reshape(images, width, rows, columns)
    smooth = {} if mode == "area" else {"antialias": True, "align_corners": False}
    dtype = grid_IDhw.dtype
    resized = functional.interpolate(grid_IDhw.float(), size=target, mode=mode, **smooth)
    return resized.to(dtype).flatten(2).transpose(1, 2)


def cut_tiles(pixels: Tensor, tiles: int) -> Tensor:
    """Cut pictures into ``tiles`` rows and columns, those of one picture together, row-major.

    ``[I, 3, tiles · h, tiles · w]`` → ``[I · tiles², 3, h, w]``.

    Raises:
        PartError: ``tiles`` does not divide height and width.
    """
    height, width = pixels.shape[-2:]
    if height % tiles or width % tiles:
        raise PartError(f"pictures of {height} x {width} pixels are not {tiles} x {tiles} tiles")
    cut = pixels.unflatten(2, (tiles, height // tiles)).unflatten(4, (tiles, width // tiles))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join_tiles(patches: Tensor, grid: tuple[int, int], tiles: int) -> Tensor:
    """Put the maps of tiles together: ``[I · tiles², N, D]`` → ``[I, tiles² · N, D]``.

    ``grid``: rows and columns of one tile. The result is row-major over the whole picture. Undoes
    ``cut_tiles`` for patches instead of pixels.
    """
    if tiles == 1:
        return patches
    cut = patches.unflatten(0, (-1, tiles, tiles)).unflatten(3, grid)
    return cut.permute(0, 1, 3, 2, 4, 5).flatten(1, 4)


def split_windows(patches_IND: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Cut a map into ``target`` (rows, columns) windows of equal size, both row-major.

    ``[I, N, D]`` → ``[I, target rows · columns, patches of a window, D]``; ``target`` must divide
    ``grid``.
    """
    (rows, columns), (down, across) = grid, target
    cut = patches_IND.unflatten(1, (down, rows // down, across, columns // across))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def merge_patches(patches_IND: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """Fold each ``factor x factor`` block of patches into the channels (space to depth).

    ``[I, N, D]`` → ``[I, N / factor², D · factor²]``, so a projector sees fewer, wider tokens.
    Source: ours (the pixel shuffle of Idefics3 and InternVL).
    """
    if factor == 1:
        return patches_IND
    return split_windows(patches_IND, grid, (grid[0] // factor, grid[1] // factor)).flatten(2)
