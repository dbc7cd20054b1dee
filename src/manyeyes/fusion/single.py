"""One encoder, one level, one projector: LLaVA (linear) and LLaVA-1.5 (``mlp2x``).

    tokens = projector(x)                    patch by patch

Shapes: I images, N patches, C = D f² channels of f x f folded patches, K visual tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from manyeyes.fusion.contract import (
    Fusion,
    FusionPlan,
    Shapes,
    check_one_encoder,
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
class SingleOptions:
    """Options of a single encoder."""

    projector: str = "mlp2x"
    """To the language model, see ``PROJECTORS``."""
    merge_patches: int = 1
    """Fold f x f patches into one token."""

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", merge_patches=self.merge_patches)


class SingleFusion(Fusion):
    """Project one level of one encoder. Source: LLaVA-1.5; COMM's CLIP baseline is ``linear``."""

    options_class = SingleOptions

    def __init__(self, options: SingleOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.factor = options.merge_patches
        (self.encoder,) = shapes
        in_width = shapes[self.encoder].width * self.factor**2
        self.projector = build_projector(options.projector, in_width, out_width)

    @classmethod
    def check(cls, options: SingleOptions, shapes: Shapes) -> None:
        check_one_encoder(shapes, "single")
        check_one_level(shapes, "single")

    @classmethod
    def planned(cls, options: SingleOptions, shapes: Shapes) -> FusionPlan:
        grid = merged_grid(common_grid(shapes, "single"), options.merge_patches, "single")
        return FusionPlan(tokens=math.prod(grid), grid=grid)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        features = grid_features(bundle, self.encoder)
        folded_IKC = merge_patches(features.levels[0], features.grid, self.factor)
        return VisualEvidence(tokens=self.projector(folded_IKC))
