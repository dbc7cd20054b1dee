"""LION's two visual branches (arXiv 2311.11860, CVPR 2024): what image-level tasks need and what
region-level tasks need.

    Z_g = W QFormer(queries, question ; LN(V_39))      32 tokens              (§1.2)
    Z_l = MLP(LN(VA(V_39; V_29, V_19)))                one per image token    (§1.3)
    VA(x; y, z) = B_2(B_1(x; y); z)                    the vision aggregator  (§1.3)
    B(x; y) = FFN(XAttn(Attn(x), y))                   one of its blocks

The vision aggregator VA reads deep levels of one frozen ViT: its stream starts from the top and
reads the deeper middle level first. Attention is bidirectional; every sub-layer ends in a
projection that starts at zero, so a fresh aggregator is a LayerNorm of V_39.

Shapes: I images, N image tokens of width W (class token first), K visual tokens, H language-model
width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from manyeyes.conversation.fusion_text import ReaderKind
from manyeyes.errors import PartError
from manyeyes.fusion.contract import Fusion, FusionPlan, Shapes, grid_features, tokens_at
from manyeyes.fusion.queries import QueryFusion, QueryOptions, image_encoder
from manyeyes.layers.attention.cross import BlockShape, CrossAttentionBlock
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.options import check_choice, check_counts
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence

VISUAL_INPUTS = ("all", "qformer", "aggregator")


@dataclass(frozen=True, kw_only=True)
class LionOptions(QueryOptions):
    """The options of ``QueryOptions``, and those of the vision aggregator."""

    text: Literal["none"] | ReaderKind = "question"
    """``question``: the Q-Former reads the question. ``none``: it reads the image alone."""
    visual_input: str = "all"
    """``all``, or ``qformer`` or ``aggregator`` alone, without building the other (stages 1 and 2).
    """
    aggregator_levels: tuple[int, ...] | None = None
    """Levels of the encoder: first the stream's, then the one that each block reads. By default
    all, deepest first."""
    aggregator_heads: int = 16
    """Heads of a block."""
    aggregator_ffn: int = 3072
    """Inner width of a block's feed-forward layer."""
    aggregator_dropout: float = 0.1
    """In training."""
    aggregator_mlp: int = 4
    """Inner width of the MLP after the blocks, as a multiple of the encoder's width."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fusion", "visual_input", self.visual_input, VISUAL_INPUTS)
        check_counts("fusion", aggregator_heads=self.aggregator_heads)

    @property
    def has_qformer(self) -> bool:
        """Whether the Q-Former's branch is built."""
        return self.visual_input != "aggregator"

    @property
    def has_aggregator(self) -> bool:
        """Whether the aggregator's branch is built."""
        return self.visual_input != "qformer"

    def levels(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        """Levels that the aggregator reads, of an encoder that gives ``indices``."""
        own = self.aggregator_levels
        return tuple(sorted(indices, reverse=True)) if own is None else own


class LionFusion(QueryFusion):
    """The Q-Former's tokens, then the aggregator's."""

    options_class = LionOptions
    options: LionOptions

    def __init__(self, options: LionOptions, shapes: Shapes, out_width: int) -> None:
        if options.has_qformer:
            super().__init__(options, shapes, out_width)
        else:
            Fusion.__init__(self, options, shapes, out_width)
            self.image_encoder = image_encoder(options, shapes)
            self.image_grid = shapes[self.image_encoder].grid
        shape = shapes[self.image_encoder]
        if options.has_aggregator:
            self.levels = _levels(options, shapes)
            self.aggregator = VisionAggregator(options, shape.width, len(self.levels))
            self.aggregator_norm = nn.LayerNorm(shape.width)
            inner = options.aggregator_mlp * shape.width
            self.aggregator_proj = nn.Sequential(
                nn.Linear(shape.width, inner), nn.GELU(), nn.Linear(inner, out_width)
            )

    @classmethod
    def check(cls, options: Any, shapes: Shapes) -> None:
        super().check(options, shapes)
        if options.text not in ("none", "question"):
            raise PartError(
                f"fusion 'lion' reads the question or no text, not {options.text!r}; train its "
                "Q-Former on image-text pairs with fusion 'qformer'"
            )
        if not options.has_aggregator:
            return
        name = image_encoder(options, shapes)
        given, levels = shapes[name].level_indices, _levels(options, shapes)
        lacking = [level for level in levels if level not in given]
        if lacking or len(levels) < 2:
            what = f"level {lacking[0]}" if lacking else "a level to read besides the first"
            raise PartError(
                f"the vision aggregator needs {what}, but encoder {name!r} gives levels "
                f"{', '.join(map(str, given))}: add it to encoders.{name}.levels"
            )
        if shapes[name].width % options.aggregator_heads:
            raise PartError(
                f"fusion.aggregator_heads: {options.aggregator_heads} heads do not divide the "
                f"width {shapes[name].width} of encoder {name!r}"
            )

    @classmethod
    def planned(cls, options: Any, shapes: Shapes) -> FusionPlan:
        whole = options.queries if options.has_qformer else 0
        shape = shapes[image_encoder(options, shapes)]
        regions = shape.num_prefix + shape.num_patches if options.has_aggregator else 0
        text = cls.reader(options) if options.has_qformer else None
        return FusionPlan(tokens=whole + regions, text=text)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. Z_g: the image as a whole   2. Z_l: its regions   3. both, one after the other."""
        branches_IKH: list[Tensor] = []
        if self.options.has_qformer:
            whole = super().forward(bundle, question).tokens
            branches_IKH += [] if whole is None else [whole]
        if self.options.has_aggregator:
            regions_INW = self.placed(self.aggregator_norm(self.aggregate(bundle)))
            branches_IKH.append(self.aggregator_proj(regions_INW))
        return VisualEvidence(tokens=torch.cat(branches_IKH, dim=1))

    def aggregate(self, bundle: FeatureBundle) -> Tensor:
        """Return VA(V_39; V_29, V_19), the vision aggregator's output, ``[I, N, W]``."""
        features = grid_features(bundle, self.image_encoder)
        stream_INW, *levels_INW = (tokens_at(features, level) for level in self.levels)
        mixed_INW: Tensor = self.aggregator(stream_INW, levels_INW)
        return mixed_INW

    def attentions(self) -> tuple[AttentionSite, ...]:
        """The Q-Former's, and how the aggregator's places read each level after the first."""
        whole = super().attentions() if self.options.has_qformer else ()
        if not self.options.has_aggregator:
            return whole
        blocks: list[Any] = [*self.aggregator]
        reads = [block.cross.change for block in blocks]
        return whole + tuple(
            AttentionSite(f"Aggregator, level {level}", read, read.weights, (self.image_encoder,))
            for level, read in zip(self.levels[1:], reads, strict=True)
        )


class VisionAggregator(nn.ModuleList):
    """One block per level that is read after the first."""

    def __init__(self, options: LionOptions, width: int, levels: int) -> None:
        shape = BlockShape(
            width=width,
            context=width,
            inner=width,
            heads=options.aggregator_heads,
            ffn=options.aggregator_ffn,
            self_attention=True,
            dropout=options.aggregator_dropout,
            zero_last=True,
        )
        super().__init__(CrossAttentionBlock(shape) for _ in range(levels - 1))

    def forward(self, stream_INW: Tensor, levels_INW: list[Tensor]) -> Tensor:
        """Return the stream ``[I, N, W]`` after reading every level."""
        for block, level in zip(self, levels_INW, strict=True):
            stream_INW = block(stream_INW, level)
        return stream_INW


def _levels(options: LionOptions, shapes: Shapes) -> tuple[int, ...]:
    return options.levels(shapes[image_encoder(options, shapes)].level_indices)
