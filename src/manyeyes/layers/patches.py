"""Operations on patch grids. Shapes: I images, N patches (rows x columns, row-major), D width."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


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
