"""LLaMA-Adapter V2 (arXiv 2304.15010), as released for images: CLIP tokens to visual prompts.

    S = LN(Linear(CLIP tokens))           V = LN(Linear(blocks([Q ; S])_{1..K}))

V is added to the adapter queries of every adapted layer by the bridge ``adapter_prompts``.

Shapes: I images, M CLIP tokens, K queries, D block width, H language-model width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from manyeyes.fusion.contract import (
    IMAGE_POSITIONS,
    Fusion,
    FusionPlan,
    Shapes,
    all_tokens,
    check_one_encoder,
    check_one_level,
    grid_features,
)
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.attention.query_blocks import QueryBlocks, projection, prompt_head
from manyeyes.layers.grid_positions import add_waves
from manyeyes.options import check_choice, check_counts, check_heads
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence


@dataclass(frozen=True, kw_only=True)
class LlamaAdapterV2Options:
    """Sizes of the released model."""

    queries: int = 10
    """Prompts per layer (K)."""
    width: int = 768
    """Of the blocks."""
    heads: int = 16
    """Of the blocks."""
    depth: int = 8
    """Number of blocks."""
    image_positions: str = "none"
    """Whether the place of each patch is added to what the queries read: ``waves`` or ``none``
    (ours)."""

    def __post_init__(self) -> None:
        check_counts("fusion", queries=self.queries, depth=self.depth)
        check_heads("fusion", self.width, self.heads)
        check_choice("fusion", "image_positions", self.image_positions, IMAGE_POSITIONS)


class LlamaAdapterV2Fusion(Fusion):
    """Queries read all tokens of one encoder, the class token included if the encoder keeps it."""

    options_class = LlamaAdapterV2Options

    def __init__(self, options: LlamaAdapterV2Options, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        (self.encoder,) = shapes
        width = options.width
        self.queries = nn.Embedding(options.queries, width)
        self.scene_proj = projection(shapes[self.encoder].width, width)
        self.visual_blocks = QueryBlocks(width, options.heads, options.depth)
        self.mlp_v = prompt_head("linear", width, out_width)

    @classmethod
    def check(cls, options: LlamaAdapterV2Options, shapes: Shapes) -> None:
        check_one_encoder(shapes, "llama_adapter_v2")
        check_one_level(shapes, "llama_adapter_v2")

    @classmethod
    def planned(cls, options: LlamaAdapterV2Options, shapes: Shapes) -> FusionPlan:
        return FusionPlan(prompts=options.queries)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        features = grid_features(bundle, self.encoder)
        scene_IMD = self.scene_proj(all_tokens(features))
        if self.options.image_positions != "none":
            scene_IMD = add_waves(scene_IMD, features.grid)
        queries_IKD = self.queries.weight.to(scene_IMD.dtype).expand(len(scene_IMD), -1, -1)
        prompts_IKH = self.mlp_v(self.visual_blocks(queries_IKD, scene_IMD))
        return VisualEvidence(prompts=prompts_IKH[:, None])

    def attentions(self) -> tuple[AttentionSite, ...]:
        return self.visual_blocks.attentions("Scene", self.encoder, len(self.queries.weight))
