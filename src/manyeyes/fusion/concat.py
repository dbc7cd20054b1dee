"""Channel concatenation of all encoders and levels, then an MLP (Prismatic, arXiv 2402.07865).

    tokens = MLP([x_1, x_2, ...])            patch by patch

Shapes: I images, N patches, C channels joined, K visual tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

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
class ConcatOptions:
    """Options of the channel concatenation."""

    projector: str = "mlp3x_fused"
    """To the language model, see ``PROJECTORS``."""
    merge_patches: int = 1
    """Fold f x f patches into one token."""

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", merge_patches=self.merge_patches)


class ConcatFusion(Fusion):
    """Concatenate all levels of all encoders along channels and project. Source: Prismatic."""

    options_class = ConcatOptions

    def __init__(self, options: ConcatOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.factor = options.merge_patches
        self.encoders = tuple(shapes)
        widths = sum(shape.width * len(shape.level_indices) for shape in shapes.values())
        self.projector = build_projector(options.projector, widths * self.factor**2, out_width)

    @classmethod
    def check(cls, options: ConcatOptions, shapes: Shapes) -> None:
        common_grid(shapes, "concat")

    @classmethod
    def planned(cls, options: ConcatOptions, shapes: Shapes) -> FusionPlan:
        grid = merged_grid(common_grid(shapes, "concat"), options.merge_patches, "concat")
        return FusionPlan(tokens=math.prod(grid), grid=grid)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        chosen = [grid_features(bundle, name) for name in self.encoders]
        joined_INC = torch.cat([level for features in chosen for level in features.levels], dim=-1)
        folded_IKC = merge_patches(joined_INC, chosen[0].grid, self.factor)
        return VisualEvidence(tokens=self.projector(folded_IKC))
