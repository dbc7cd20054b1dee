"""An anchor encoder whose patches read other encoders by cross-attention (FtZ, arXiv 2509.00664).

    y      = [LN(Linear_e(x_e)) for every other encoder e], their tokens one after the other
    z      = x_anchor, then D layers:  z ← z + Attn(LN(z), y);  z ← z + FFN(LN(z)), if there is one
    tokens = P(z)                               as many as the anchor has patches

Of the paper only the abstract was available: an anchor strong in meaning, an encoder rich in detail
beside it, and multi-head cross-attention between them. Ours: all else, that is which side asks,
residuals, norms, layers that start as the identity (so that a fresh fusion is the anchor alone),
several encoders under one softmax, and sizes.

Shapes: I images, N patches of the anchor, Y tokens of the others, C width of the anchor, K visual
tokens, H language-model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from manyeyes.errors import PartError, nearest
from manyeyes.fusion.contract import (
    Fusion,
    FusionPlan,
    Shapes,
    all_tokens,
    check_one_level,
    grid_features,
    merged_grid,
)
from manyeyes.layers.attention.cross import BlockShape, CrossAttentionBlock
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.mlp import PROJECTORS, build_projector
from manyeyes.layers.patches import merge_patches
from manyeyes.options import check_choice, check_counts
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence


@dataclass(frozen=True, kw_only=True)
class CrossAttentionOptions:
    """Sizes of the cross-attention; all of them are ours."""

    anchor: str | None = None
    """Name of the encoder whose patches ask, and become the tokens. By default the first."""
    depth: int = 1
    """Number of layers (D)."""
    heads: int = 8
    """Of the attention; they divide the anchor's width."""
    ffn: int | None = None
    """Inner width of a feed-forward sub-layer after each attention. By default there is none."""
    projector: str = "mlp2x"
    """To the language model, see ``PROJECTORS``."""
    merge_patches: int = 1
    """Fold f x f of the anchor's patches into one token, after they have read."""

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", depth=self.depth, heads=self.heads, merge_patches=self.merge_patches)
        if self.ffn is not None:
            check_counts("fusion", ffn=self.ffn)


class CrossAttentionFusion(Fusion):
    """One level of two or more encoders; their grids may differ.

    Class and register tokens of the others are read too, where an encoder keeps them.
    """

    options_class = CrossAttentionOptions
    options: CrossAttentionOptions

    def __init__(self, options: CrossAttentionOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.anchor = anchor_of(options, shapes)
        width = shapes[self.anchor].width
        self.adapters = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(shape.width, width), nn.LayerNorm(width))
                for name, shape in shapes.items()
                if name != self.anchor
            }
        )
        shape = BlockShape(
            width=width,
            context=width,
            inner=width,
            heads=options.heads,
            ffn=options.ffn or 0,
            pre_norm=True,
            dropout=0.0,
        )
        self.layers = nn.ModuleList(CrossAttentionBlock(shape) for _ in range(options.depth))
        folded = width * options.merge_patches**2
        self.projector = build_projector(options.projector, folded, out_width)

    @classmethod
    def check(cls, options: CrossAttentionOptions, shapes: Shapes) -> None:
        if len(shapes) < 2:
            raise PartError(
                "fusion 'cross_attention' takes an anchor and at least one encoder that it reads, "
                f"got {', '.join(shapes) or 'none'}"
            )
        check_one_level(shapes, "cross_attention")
        anchor = anchor_of(options, shapes)
        width = shapes[anchor].width
        if width % options.heads:
            raise PartError(
                f"fusion.heads: {options.heads} does not divide the width {width} of the anchor "
                f"{anchor!r}"
            )
        merged_grid(shapes[anchor].grid, options.merge_patches, "cross_attention")

    @classmethod
    def planned(cls, options: CrossAttentionOptions, shapes: Shapes) -> FusionPlan:
        own = shapes[anchor_of(options, shapes)].grid
        grid = merged_grid(own, options.merge_patches, "cross_attention")
        return FusionPlan(tokens=math.prod(grid), grid=grid)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. bring the others to the anchor's width   2. let its patches read   3. project."""
        features = grid_features(bundle, self.anchor)
        read_IYC = self.read_tokens(bundle)
        x_INC = features.levels[0]
        for layer in self.layers:
            x_INC = layer(x_INC, read_IYC)
        folded_IKC = merge_patches(x_INC, features.grid, self.options.merge_patches)
        return VisualEvidence(tokens=self.projector(folded_IKC))

    def read_tokens(self, bundle: FeatureBundle) -> Tensor:
        """Return what the anchor reads, ``[I, Y, C]``, encoder after encoder."""
        found = [
            adapter(all_tokens(grid_features(bundle, name)))
            for name, adapter in self.adapters.items()
        ]
        return torch.cat(found, dim=1)

    def attentions(self) -> tuple[AttentionSite, ...]:
        blocks: list[Any] = [*self.layers]
        reads = [block.cross.change for block in blocks]
        return tuple(
            AttentionSite(f"Layer {number}", read, read.weights, tuple(self.adapters))
            for number, read in enumerate(reads)
        )


def anchor_of(options: CrossAttentionOptions, shapes: Shapes) -> str:
    """Return the name of the encoder that asks.

    Raises:
        PartError: the options name one that there is not; names the nearest.
    """
    if options.anchor is None:
        return next(iter(shapes))
    if options.anchor not in shapes:
        raise PartError(
            f"fusion.anchor: no encoder {options.anchor!r}{nearest(options.anchor, shapes)}; the "
            f"encoders are {', '.join(shapes)}"
        )
    return options.anchor
