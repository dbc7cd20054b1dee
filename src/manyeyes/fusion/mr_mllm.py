"""MR-MLLM's shared query fusion (arXiv 2406.15768): scene and objects to adapter prompts.

    V^m = VF([Q_s ; LN(W_s S)])_{1..K}       visual forward block over the scene encoder's tokens
    V^p = PF([Q_s ; LN(W_o O)])_{1..K}       perception forward block over a detector's objects
    Q_shared = F([V^m ; V^p])                shared query fusion
    prompts = LN(MLP_v(Q_shared^m)) + LN(MLP_p(Q_shared^p))    to the language width

With ``text_depth`` the detections' words are read too: V^t = TF([Q_s ; LN(W_t E)]) over the pooled
token embeddings E of each object, and LN(MLP_t(V^t)) is added; images without such text get none.

The same learned queries Q_s enter all blocks. Without a detector VF and MLP_v remain; with
``mlp: linear`` that is LLaMA-Adapter V2. Depths of PF and F, the box embedding and the refiner are
ours: the paper's text was not available.

Shapes: I images, M scene tokens, Q objects, O texts about objects, K shared queries, D width of the
blocks, H language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manyeyes.encoders import GridShape, ObjectShape, Shape
from manyeyes.errors import PartError
from manyeyes.fusion.contract import (
    IMAGE_POSITIONS,
    Fusion,
    FusionPlan,
    all_tokens,
    check_one_level,
    grid_features,
    object_features,
)
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.attention.query_blocks import QueryBlocks, projection, prompt_head
from manyeyes.layers.grid_positions import add_waves
from manyeyes.layers.mlp import ZeroLinear
from manyeyes.layers.object_refiner import REFINER_HEADS, ObjectRefiner
from manyeyes.options import check_choice, check_counts, check_heads
from manyeyes.records import (
    PERCEPTION,
    REFINED,
    FeatureBundle,
    FusionText,
    GridFeatures,
    ObjectFeatures,
    TextFeatures,
    VisualEvidence,
)

MLPS = ("mlp", "linear")


@dataclass(frozen=True, kw_only=True)
class SharedQueriesOptions:
    """Sizes and switches of MR-MLLM's shared queries."""

    queries: int = 10
    """Prompts per layer (K)."""
    width: int = 768
    """Of all blocks."""
    heads: int = 16
    """Of all blocks."""
    visual_depth: int = 8
    """Blocks that read the scene (VF)."""
    perception_depth: int = 2
    """Blocks that read the objects (PF)."""
    fusion_depth: int = 2
    """Blocks over both results (F)."""
    text_depth: int = 0
    """Blocks that read the words about objects (TF), for perception text in the form ``adapter``.
    0: none."""
    mlp: str = "mlp"
    """What follows the blocks: ``mlp`` (Linear, GELU, Linear) or ``linear``."""
    image_positions: str = "none"
    """Whether the place of each patch is added to what the queries read: ``waves`` or ``none``
    (ours)."""
    box_embed: bool = False
    """Add an embedding of each object's box. It starts at zero."""
    refine: bool = False
    """Update the objects from the shared queries."""

    def __post_init__(self) -> None:
        check_choice("fusion", "mlp", self.mlp, MLPS)
        check_counts("fusion", queries=self.queries, visual_depth=self.visual_depth)
        check_heads("fusion", self.width, self.heads)
        check_choice("fusion", "image_positions", self.image_positions, IMAGE_POSITIONS)


class SharedQueriesFusion(Fusion):
    """One grid encoder for the scene and, unless left out, one detector for the objects."""

    options_class = SharedQueriesOptions
    options: SharedQueriesOptions
    reads = (GridShape, ObjectShape)

    def __init__(
        self, options: SharedQueriesOptions, shapes: Mapping[str, Shape], out_width: int
    ) -> None:
        super().__init__(options, shapes, out_width)
        self.scene, self.detector = _roles(shapes)
        width, heads = options.width, options.heads
        self.queries = nn.Embedding(options.queries, width)
        self.scene_proj = projection(shapes[self.scene].width, width)
        self.visual_blocks = QueryBlocks(width, heads, options.visual_depth)
        self.mlp_v = prompt_head(options.mlp, width, out_width)
        if options.text_depth:
            self.text_proj = projection(out_width, width)
            self.text_blocks = QueryBlocks(width, heads, options.text_depth)
            self.mlp_t = prompt_head(options.mlp, width, out_width)
        if self.detector is None:
            return
        object_width = shapes[self.detector].width
        self.object_proj = projection(object_width, width)
        self.perception_blocks = QueryBlocks(width, heads, options.perception_depth)
        self.fusion_blocks = QueryBlocks(width, heads, options.fusion_depth)
        self.mlp_p = prompt_head(options.mlp, width, out_width)
        if options.box_embed:
            self.box_embed = nn.Sequential(nn.Linear(4, width), nn.GELU(), ZeroLinear(width, width))
        if options.refine:
            self.refiner = ObjectRefiner(object_width, width)

    @classmethod
    def check(cls, options: SharedQueriesOptions, shapes: Mapping[str, Shape]) -> None:
        _, detector = _roles(shapes)
        check_one_level(shapes, "shared_queries")
        for name in ("box_embed", "refine"):
            if detector is None and getattr(options, name):
                raise PartError(f"fusion.{name}: there is no detector whose objects it could use")
        if detector is not None:
            _check_objects(options, detector, shapes[detector])

    @classmethod
    def planned(cls, options: SharedQueriesOptions, shapes: Mapping[str, Shape]) -> FusionPlan:
        return FusionPlan(
            prompts=options.queries,
            object_texts=options.text_depth > 0,
            refines=_roles(shapes)[1] if options.refine else None,
        )

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. VF reads the scene   2. PF reads the objects   3. F joins both   4. prompts."""
        scene_IMD = self._read_scene(grid_features(bundle, self.scene))
        queries_IKD = self.queries.weight.to(scene_IMD.dtype).expand(len(scene_IMD), -1, -1)
        visual_IKD = self.visual_blocks(queries_IKD, scene_IMD)
        if self.detector is None:
            prompts_IKH = self.mlp_v(visual_IKD) + self._read_texts(bundle, queries_IKD)
            return VisualEvidence(prompts=prompts_IKH[:, None])
        objects = object_features(bundle, self.detector)
        perception_IKD = self.perception_blocks(queries_IKD, self._describe(objects))
        shared = self.fusion_blocks(torch.cat([visual_IKD, perception_IKD], dim=1))  # [I, 2K, D]
        fused_visual_IKD, fused_perception_IKD = shared.chunk(2, dim=1)
        prompts_IKH = self.mlp_v(fused_visual_IKD) + self.mlp_p(fused_perception_IKD)
        prompts_IKH = prompts_IKH + self._read_texts(bundle, queries_IKD)
        trace = {REFINED: self.refiner(objects.queries, shared)} if self.options.refine else {}
        return VisualEvidence(prompts=prompts_IKH[:, None], trace=trace)

    def _read_scene(self, features: GridFeatures) -> Tensor:
        """LN(W_s S) ``[I, M, D]``, with the patches' places where the options ask for them."""
        scene_IMD: Tensor = self.scene_proj(all_tokens(features))
        if self.options.image_positions == "none":
            return scene_IMD
        return add_waves(scene_IMD, features.grid)

    def _describe(self, objects: ObjectFeatures) -> Tensor:
        """LN(W_o O) ``[I, Q, D]``, with the boxes' embedding where there is one."""
        described_IQD: Tensor = self.object_proj(objects.queries)
        if self.options.box_embed:
            described_IQD = described_IQD + self.box_embed(objects.boxes.to(described_IQD.dtype))
        return described_IQD

    def _read_texts(self, bundle: FeatureBundle, queries_IKD: Tensor) -> Tensor | float:
        """What the words about an image's objects add to its prompts ``[I, K, H]``."""
        if not self.options.text_depth:
            return 0.0
        texts = bundle.get(PERCEPTION)
        if not isinstance(texts, TextFeatures):
            # nobody looked: the parameters still get a gradient, which is zero
            empty_IOH = queries_IKD.new_zeros(len(queries_IKD), 0, self.out_width)
            texts = TextFeatures(empty_IOH, torch.zeros_like(empty_IOH[..., 0], dtype=torch.bool))
        described_IOD = self.text_proj(texts.vectors.to(queries_IKD.dtype))
        read_IKD = self.text_blocks(queries_IKD, described_IOD, texts.mask)
        return self.mlp_t(read_IKD) * texts.mask.any(dim=1)[:, None, None]

    def attentions(self) -> tuple[AttentionSite, ...]:
        """How the queries read the scene's tokens and the detector's objects."""
        count = self.options.queries
        found = self.visual_blocks.attentions("Scene", self.scene, count)
        if self.detector is None:
            return found
        return found + self.perception_blocks.attentions("Objects", self.detector, count)


def _check_objects(options: SharedQueriesOptions, detector: str, shape: Shape) -> None:
    for name in ("box_embed", "refine"):
        if getattr(options, name) and isinstance(shape, ObjectShape) and not shape.aligned:
            raise PartError(
                f"fusion.{name} needs one descriptor per object, but {detector!r} describes places "
                "in the image (object_source: encoder); use object_source: decoder"
            )
    if options.refine and shape.width % REFINER_HEADS:
        raise PartError(
            f"fusion.refine: {REFINER_HEADS} heads do not divide the width {shape.width} of "
            f"{detector!r}"
        )


def _roles(shapes: Mapping[str, Shape]) -> tuple[str, str | None]:
    """Return the names of the scene encoder and of the detector, if there is one.

    Raises:
        PartError: not exactly one scene encoder, or more than one detector.
    """
    scenes = [name for name, shape in shapes.items() if isinstance(shape, GridShape)]
    detectors = [name for name, shape in shapes.items() if isinstance(shape, ObjectShape)]
    if len(scenes) != 1 or len(detectors) > 1:
        raise PartError(
            "fusion 'shared_queries' takes one encoder with patch features and at most one "
            f"detector, got {', '.join(scenes) or 'none'} and {', '.join(detectors) or 'none'}"
        )
    return scenes[0], detectors[0] if detectors else None
