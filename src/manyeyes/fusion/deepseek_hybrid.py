"""DeepSeek-VL's hybrid encoder: a high-resolution map beside a semantic one (arXiv 2403.05525 §3).

    d      = Conv_2(Conv_1(resize(x_high)))     3 x 3 kernels at stride 2: to four times its width,
                                                on the grid of x_low
    tokens = Linear(GELU([W_high d ; W_low x_low]))                 each half of the width H

x_high is a map of an encoder of the SAM type, resized to four times the rows and columns of x_low
(bilinear). Sizes are those of the released model. Ours: which encoders they are; left out is its
second path, a neck of its own on an earlier state, which starts at zero.

Shapes: I images, (r, c) the grid of x_low, K = r · c visual tokens, C width of x_high, H
language-model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from manyeyes.errors import PartError, nearest
from manyeyes.fusion.contract import (
    Fusion,
    FusionPlan,
    Shapes,
    check_one_level,
    grid_features,
    merged_grid,
)
from manyeyes.layers.patches import merge_patches
from manyeyes.options import check_counts
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence

STEPS = 2
"""Convolutions of stride 2, each of which doubles the width."""


@dataclass(frozen=True, kw_only=True)
class DeepSeekHybridOptions:
    """Which encoder is which."""

    high: str | None = None
    """Name of the encoder of high resolution, whose map is made smaller. By default the first."""
    merge_patches: int = 1
    """Fold f x f places of both maps into one token (ours: 1 is the released model's)."""

    def __post_init__(self) -> None:
        check_counts("fusion", merge_patches=self.merge_patches)


class DeepSeekHybridFusion(Fusion):
    """One level of two encoders; the second one's grid is that of the tokens."""

    options_class = DeepSeekHybridOptions
    options: DeepSeekHybridOptions

    def __init__(self, options: DeepSeekHybridOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.high, self.low = branches(options, shapes)
        width, folds = shapes[self.high].width, options.merge_patches**2
        self.shrink = nn.Sequential(
            *(
                nn.Conv2d(width << step, width << step + 1, 3, stride=2, padding=1, bias=False)
                for step in range(STEPS)
            )
        )
        half = out_width // 2
        self.high_proj = nn.Linear((width << STEPS) * folds, half)
        self.low_proj = nn.Linear(shapes[self.low].width * folds, out_width - half)
        self.projector = nn.Sequential(nn.GELU(), nn.Linear(out_width, out_width))

    @classmethod
    def check(cls, options: DeepSeekHybridOptions, shapes: Shapes) -> None:
        if len(shapes) != 2:
            raise PartError(
                "fusion 'deepseek_hybrid' takes two encoders, one of high resolution and one of "
                f"meaning, got {', '.join(shapes) or 'none'}"
            )
        check_one_level(shapes, "deepseek_hybrid")
        _, low = branches(options, shapes)
        merged_grid(shapes[low].grid, options.merge_patches, "deepseek_hybrid")

    @classmethod
    def planned(cls, options: DeepSeekHybridOptions, shapes: Shapes) -> FusionPlan:
        _, low = branches(options, shapes)
        grid = merged_grid(shapes[low].grid, options.merge_patches, "deepseek_hybrid")
        return FusionPlan(tokens=math.prod(grid), grid=grid)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. shrink the high-resolution map   2. fold   3. project each   4. join and project."""
        low, factor = grid_features(bundle, self.low), self.options.merge_patches
        details = merge_patches(self.details(bundle, low.grid), low.grid, factor)
        meaning = merge_patches(low.levels[0], low.grid, factor)
        joined_IKH = torch.cat([self.high_proj(details), self.low_proj(meaning)], dim=-1)
        return VisualEvidence(tokens=self.projector(joined_IKH))

    def details(self, bundle: FeatureBundle, grid: tuple[int, int]) -> Tensor:
        """Return the high-resolution map on ``grid``, ``[I, r · c, 4 C]``."""
        features = grid_features(bundle, self.high)
        board_ICrc = features.levels[0].transpose(1, 2).unflatten(2, features.grid)
        size = (grid[0] << STEPS, grid[1] << STEPS)
        resized = functional.interpolate(board_ICrc.float(), size, mode="bilinear")
        shrunk: Tensor = self.shrink(resized.to(board_ICrc.dtype))
        return shrunk.flatten(2).transpose(1, 2)


def branches(options: DeepSeekHybridOptions, shapes: Shapes) -> tuple[str, str]:
    """Return the names of the encoder of high resolution and of the other.

    Raises:
        PartError: the options name an encoder that there is not; names the nearest.
    """
    high = next(iter(shapes)) if options.high is None else options.high
    if high not in shapes:
        raise PartError(
            f"fusion.high: no encoder {high!r}{nearest(high, shapes)}; the encoders are "
            f"{', '.join(shapes)}"
        )
    (low,) = (name for name in shapes if name != high)
    return high, low
