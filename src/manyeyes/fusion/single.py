"""One encoder, one level, one projector: LLaVA (linear) and LLaVA-1.5 (``mlp2x``)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from manyeyes.errors import PartError
from manyeyes.fusion.contract import (
    Fusion,
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
class SingleOptions:
    """projector: see ``PROJECTORS``; merge_patches: fold f x f patches into one token."""

    projector: str = "mlp2x"
    merge_patches: int = 1

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", merge_patches=self.merge_patches)


class SingleFusion(Fusion):
    """Project one level of one encoder. Source: LLaVA-1.5; COMM's CLIP baseline is ``linear``."""

    options_class = SingleOptions

    def __init__(self, options: SingleOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__()
        self.factor = options.merge_patches
        (self.encoder,) = shapes
        in_width = shapes[self.encoder].width * self.factor**2
        self.projector = build_projector(options.projector, in_width, out_width)

    @classmethod
    def check(cls, options: SingleOptions, shapes: Shapes) -> None:
        if len(shapes) != 1:
            raise PartError(f"fusion 'single' takes one encoder, got {', '.join(shapes) or 'none'}")
        check_one_level(shapes, "single")

    @classmethod
    def num_tokens(cls, options: SingleOptions, shapes: Shapes) -> int:
        return math.prod(cls.token_grid(options, shapes))

    @classmethod
    def token_grid(cls, options: SingleOptions, shapes: Shapes) -> tuple[int, int]:
        return merged_grid(common_grid(shapes, "single"), options.merge_patches, "single")

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        features = grid_features(bundle, self.encoder)
        patches = merge_patches(features.levels[0], features.grid, self.factor)
        return VisualEvidence(tokens=self.projector(patches))
