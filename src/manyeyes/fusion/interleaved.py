"""Interleaved mixture of features (I-MoF; arXiv 2401.06209 §4.2): encoders side by side as tokens.

    y_e = A_e(x_e)                                   per encoder e, with an adapter of its own
    tokens = y_1[0], y_2[0], ..., y_1[1], y_2[1], ...  all encoders at patch 0, then at patch 1, ...

Shapes: I images, N patches, E encoders, D encoder width, H language-model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from manyeyes.fusion.contract import (
    Fusion,
    FusionPlan,
    Shapes,
    check_one_level,
    common_grid,
    grid_features,
    merged_grid,
)
from manyeyes.layers.mlp import PROJECTORS, build_projector
from manyeyes.layers.patches import merge_patches
from manyeyes.options import check_choice, check_counts
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence


@dataclass(frozen=True, kw_only=True)
class InterleavedOptions:
    """Options of I-MoF."""

    projector: str = "mlp2x"
    """Of each encoder, see ``PROJECTORS``. ``mlp2x`` is that of LLaVA-1.5, on which I-MoF builds.
    """
    merge_patches: int = 1
    """Fold f x f patches of an encoder into one token (ours: 1)."""

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", merge_patches=self.merge_patches)


class InterleavedFusion(Fusion):
    """Project one level of each encoder and interleave the tokens patch by patch.

    At a patch the encoders stand in the recipe's order (ours); the paper's two are CLIP and DINOv2.
    """

    options_class = InterleavedOptions

    def __init__(self, options: InterleavedOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.factor = options.merge_patches
        self.projectors = nn.ModuleDict(
            {
                name: build_projector(options.projector, shape.width * self.factor**2, out_width)
                for name, shape in shapes.items()
            }
        )

    @classmethod
    def check(cls, options: InterleavedOptions, shapes: Shapes) -> None:
        check_one_level(shapes, "interleaved")
        common_grid(shapes, "interleaved")

    @classmethod
    def planned(cls, options: InterleavedOptions, shapes: Shapes) -> FusionPlan:
        grid = common_grid(shapes, "interleaved")
        merged = merged_grid(grid, options.merge_patches, "interleaved")
        return FusionPlan(tokens=len(shapes) * math.prod(merged), places=merged)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. fold and project each encoder ``[I, N, H]``   2. interleave ``[I, N · E, H]``."""
        projected = []
        for name, projector in self.projectors.items():
            features = grid_features(bundle, name)
            patches = merge_patches(features.levels[0], features.grid, self.factor)
            projected.append(projector(patches))
        return VisualEvidence(tokens=torch.stack(projected, dim=2).flatten(1, 2))
