"""DeepStack as in Qwen3-VL: levels of the encoders enter the first layers of the language model.

    z_i    = [x_{1,i}, x_{2,i}, ...]          level i of every encoder, patch by patch, then folded
    tokens = P(z_L)                           the last level, at the image's places in the text
    x_s    = P_s(z_{s+1}), s = 0 ... L - 2    added after layer s of the language model, there too

Every P is a projector of its own. One encoder, three earlier levels, folded 2 x 2, is Qwen3-VL
(arXiv 2511.21631; of the released model: LayerNorm, Linear, GELU, Linear). Stacking visual tokens
is DeepStack (arXiv 2406.04334), whose rows are crops of a larger picture. Several encoders side by
side are ours, and so is that the norm of the last level's projector stands behind the fold.

Shapes: I images, N patches, C channels joined and folded, L levels, S = L - 1, K visual tokens, H
language-model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manyeyes.errors import PartError
from manyeyes.fusion.contract import (
    Fusion,
    FusionPlan,
    Shapes,
    common_grid,
    grid_features,
    merged_grid,
)
from manyeyes.layers.mlp import PROJECTORS, build_projector
from manyeyes.layers.patches import merge_patches
from manyeyes.options import check_choice, check_counts
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence


@dataclass(frozen=True, kw_only=True)
class DeepStackOptions:
    """Options of the projectors; which levels are stacked, the encoders' ``levels`` say."""

    projector: str = "merger"
    """Of each level, see ``PROJECTORS``. ``merger`` is that of Qwen3-VL."""
    merge_patches: int = 1
    """Fold f x f patches into one token. Qwen3-VL folds 2 x 2."""

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", merge_patches=self.merge_patches)


class DeepStackFusion(Fusion):
    """Any number of encoders on one grid, each with as many levels, in the order of the recipe."""

    options_class = DeepStackOptions
    options: DeepStackOptions

    def __init__(self, options: DeepStackOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.encoders = tuple(shapes)
        width = sum(shape.width for shape in shapes.values()) * options.merge_patches**2
        self.projector = build_projector(options.projector, width, out_width)
        self.stack = nn.ModuleList(
            build_projector(options.projector, width, out_width) for _ in range(self.plan.layers)
        )

    @classmethod
    def check(cls, options: DeepStackOptions, shapes: Shapes) -> None:
        levels = {name: len(shape.level_indices) for name, shape in shapes.items()}
        if len(set(levels.values())) > 1:
            raise PartError(
                f"fusion 'deepstack' joins the encoders level by level, but they give {levels}: "
                "name as many levels of each"
            )
        for name, count in levels.items():
            if count < 2:
                raise PartError(
                    f"fusion 'deepstack' takes two or more levels, got {count} of {name!r}: its "
                    "last becomes tokens, each earlier one enters a layer of the language model"
                )
        merged_grid(common_grid(shapes, "deepstack"), options.merge_patches, "deepstack")

    @classmethod
    def planned(cls, options: DeepStackOptions, shapes: Shapes) -> FusionPlan:
        grid = merged_grid(common_grid(shapes, "deepstack"), options.merge_patches, "deepstack")
        (levels,) = {len(shape.level_indices) for shape in shapes.values()}
        return FusionPlan(tokens=math.prod(grid), grid=grid, layers=levels - 1)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. join and fold every level   2. project the last   3. project the earlier ones."""
        *earlier, last = [self.level(bundle, place) for place in range(len(self.stack) + 1)]
        rows = [projector(x) for projector, x in zip(self.stack, earlier, strict=True)]
        return VisualEvidence(tokens=self.projector(last), layers=torch.stack(rows, dim=1))

    def level(self, bundle: FeatureBundle, place: int) -> Tensor:
        """Return one level of all encoders, folded: ``[I, K, C]``."""
        found = [grid_features(bundle, name) for name in self.encoders]
        joined_INC = torch.cat([features.levels[place] for features in found], dim=-1)
        return merge_patches(joined_INC, found[0].grid, self.options.merge_patches)
