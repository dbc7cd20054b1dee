"""LLaMA-Adapter V2 (arXiv 2304.15010), as released for images: CLIP tokens to visual prompts.

    S = LN(Linear(CLIP tokens))           V = LN(Linear(blocks([Q ; S])_{1..K}))

V is added to the adapter queries of every adapted layer by the bridge ``adapter_prompts``.

Shapes: I images, M CLIP tokens, K queries, D block width, H language-model width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from manyeyes.errors import PartError
from manyeyes.fusion.contract import Fusion, Shapes, all_tokens, grid_features
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.attention.query_blocks import QueryBlocks, check_heads, projection, prompt_head
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence


@dataclass(frozen=True, kw_only=True)
class LlamaAdapterV2Options:
    """queries: K. width, heads, depth: of the blocks; the defaults are the released model's."""

    queries: int = 10
    width: int = 768
    heads: int = 16
    depth: int = 8


class LlamaAdapterV2Fusion(Fusion):
    """Queries read all tokens of one encoder, the class token included if the encoder keeps it."""

    options_class = LlamaAdapterV2Options

    def __init__(self, options: LlamaAdapterV2Options, shapes: Shapes, out_width: int) -> None:
        super().__init__()
        (self.encoder,) = shapes
        width = options.width
        self.queries = nn.Embedding(options.queries, width)
        self.scene_proj = projection(shapes[self.encoder].width, width)
        self.visual_blocks = QueryBlocks(width, options.heads, options.depth)
        self.mlp_v = prompt_head("linear", width, out_width)

    @classmethod
    def check(cls, options: LlamaAdapterV2Options, shapes: Shapes) -> None:
        check_heads(options.width, options.heads, "fusion 'llama_adapter_v2'")
        if len(shapes) != 1:
            listed = ", ".join(shapes) or "none"
            raise PartError(f"fusion 'llama_adapter_v2' takes one encoder, got {listed}")
        ((name, shape),) = shapes.items()
        if len(shape.level_indices) != 1:
            raise PartError(
                f"fusion 'llama_adapter_v2' takes one level of {name!r}, got {shape.level_indices}"
            )

    @classmethod
    def num_tokens(cls, options: LlamaAdapterV2Options, shapes: Shapes) -> int:
        return 0

    @classmethod
    def num_prompts(cls, options: LlamaAdapterV2Options) -> int:
        return options.queries

    def attentions(self) -> tuple[AttentionSite, ...]:
        return self.visual_blocks.attentions("Scene", self.encoder, len(self.queries.weight))

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        scene = self.scene_proj(all_tokens(grid_features(bundle, self.encoder)))
        queries = self.queries.weight.to(scene.dtype).expand(len(scene), -1, -1)
        prompts = self.mlp_v(self.visual_blocks(queries, scene))
        return VisualEvidence(prompts=prompts[:, None])
