"""X-Former (arXiv 2407.13851): a Q-Former whose queries also read a masked autoencoder's features.

    Zq = QFormer(Q ; C)      C: global features (CLIP)
    M' = CA1(M, Zq)          M: local features (MAE, half of the patches hidden in stage 1)
    Z' = CA2(Zq, M')         visual tokens, projected to the language width

M' through the frozen MAE decoder gives the reconstruction. Encoders, order of the two attentions,
mask ratio and stages: the paper, as its notes report them; its text was not available. Everything
else is ours and a switch (x-former.md §2.4).

Shapes: I images, N tokens of C, Q queries of width D, T text tokens, P local tokens (class token
first) of width W.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.fusion.contract import FusionPlan, Shapes, grid_features, tokens_at
from manyeyes.fusion.image_text import ImageTextFusion
from manyeyes.fusion.queries import QueryOptions, Refinement, States
from manyeyes.layers.attention.cross import BlockShape, CrossAttentionBlock, causal_context_mask
from manyeyes.layers.attention.dual import DualAttention, DualShape
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.normal_linear import NormalLinear
from manyeyes.options import check_choice, check_counts
from manyeyes.records import LOCAL_STATES, FeatureBundle, FusionText

JOINS = ("dual", "concat")
FUSION_POSITIONS = ("top", "interleaved")
ITG_ROUTES = ("blip2", "fused")
REC_PASSES = ("image", "both")


@dataclass(frozen=True, kw_only=True)
class XFormerOptions(QueryOptions):
    """The options of ``QueryOptions``, and those of the dual attention (X-Former §2.4)."""

    local_encoder: str | None = None
    """The encoder whose features are M. By default the second. The image encoder's own name takes
    its shallowest level in place of MAE."""
    mae_enabled: bool = True
    """Read M. Without it this is a plain Q-Former."""
    join: str = "dual"
    """``dual`` cross-attention. ``concat``: M, brought to C's width, stands beside C in the
    Q-Former's cross-attention."""
    fusion_position: str = "top"
    """The dual attention stands after the last layer (``top``) or after each (``interleaved``, the
    paper's early variant)."""
    num_dual_layers: int = 1
    """Dual layers after the last one."""
    dual_self_attention: bool = False
    """The queries also attend to each other there."""
    dual_ffn: str = "both"
    """Which of the two attentions have a feed-forward layer."""
    dual_norm: str = "post"
    """``post``: norms after the attentions, as in BERT. ``pre``: before them."""
    mae_width_adapter: str = "project"
    """How M's width meets the queries'. ``project`` maps it there and back. ``native`` runs the
    first attention at M's width. ``narrow`` keeps M's width outside and the queries' inside."""
    itg_route: str = "blip2"
    """Captions are written from the Q-Former's query states (``blip2``), or from Z' in one more
    causal layer (``fused``)."""
    reconstruct: bool = False
    """Build what only reconstruction needs."""
    rec_pass: str = "image"
    """``image``: M' of the query-only pass is reconstructed. ``both``: also that of the matching
    pass of own pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fusion", "join", self.join, JOINS)
        check_choice("fusion", "fusion_position", self.fusion_position, FUSION_POSITIONS)
        check_choice("fusion", "itg_route", self.itg_route, ITG_ROUTES)
        check_choice("fusion", "rec_pass", self.rec_pass, REC_PASSES)
        check_counts("fusion", num_dual_layers=self.num_dual_layers)
        self.dual_shape(local=self.width)
        if self.reconstruct and (self.join == "concat" or not self.mae_enabled):
            raise PartError("fusion.reconstruct needs M', which only the dual attention gives")

    def dual_shape(self, local: int) -> DualShape:
        """Return the shape of the dual attention for local features of width ``local``."""
        return DualShape(
            width=self.width,
            local=local,
            heads=self.heads,
            adapter=self.mae_width_adapter,
            ffn=self.dual_ffn,
            self_attention=self.dual_self_attention,
            norm=self.dual_norm,
            dropout=self.dropout,
            layers=self.layers if self.fusion_position == "interleaved" else self.num_dual_layers,
            reconstruct=self.reconstruct,
        )


class XFormerFusion(ImageTextFusion):
    """A Q-Former over the image encoder and a dual attention with the local encoder."""

    options_class = XFormerOptions
    options: XFormerOptions
    partial: ClassVar[tuple[str, ...]] = (*ImageTextFusion.partial, "dual.w_out.*", "writer.*")

    def __init__(self, options: XFormerOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.local_encoder = local_encoder(options, shapes) if options.mae_enabled else None
        self.dual: DualAttention | None = None
        if self.local_encoder is None:
            return
        local = shapes[self.local_encoder].width
        if options.join == "concat":
            self.adapter = NormalLinear(local, shapes[self.image_encoder].width)
        else:
            self.dual = DualAttention(options.dual_shape(local))
        if options.itg_route == "fused" and options.text == "caption":
            self.writer = _writer(options)

    @classmethod
    def check(cls, options: XFormerOptions, shapes: Shapes) -> None:
        super().check(options, shapes)
        if not options.mae_enabled:
            return
        name = local_encoder(options, shapes)
        if options.reconstruct and shapes[name].num_prefix != 1:
            raise PartError(
                f"fusion.reconstruct: the decoder of {name!r} needs its class token; set "
                "keep_prefix: true on that encoder"
            )

    @classmethod
    def planned(cls, options: XFormerOptions, shapes: Shapes) -> FusionPlan:
        name = local_encoder(options, shapes) if options.reconstruct else None
        return replace(super().planned(options, shapes), reconstructs=name)

    @property
    def reconstructs_match(self) -> bool:
        return self.options.reconstruct and self.options.rec_pass == "both"

    def image_tokens(self, bundle: FeatureBundle) -> Tensor:
        """Return C ``[I, N, W]``, and after it M in C's width where the two are joined so."""
        tokens_INW = super().image_tokens(bundle)
        if self.local_encoder is None or self.dual is not None:
            return tokens_INW
        return torch.cat([tokens_INW, self.adapter(self.local_tokens(bundle))], dim=1)

    def local_tokens(self, bundle: FeatureBundle) -> Tensor:
        """Return M ``[I, P, W]``: class token and visible patches, in the encoder's order."""
        assert self.local_encoder is not None
        features = grid_features(bundle, self.local_encoder)
        chosen = min if self.local_encoder == self.image_encoder else max
        return tokens_at(features, chosen(features.level_indices))

    def refinement(self, bundle: FeatureBundle) -> Refinement:
        if self.dual is None:
            return Refinement()
        interleaved = self.options.fusion_position == "interleaved"
        local_IPW = self.local_tokens(bundle)
        return _Dual(self.dual, local_IPW, interleaved, self.options.reconstruct)

    def caption_states(self, bundle: FeatureBundle, written: FusionText) -> Tensor:
        if self.options.itg_route == "blip2" or self.dual is None:
            return super().caption_states(bundle, written)
        refinement = self.refinement(bundle)
        queries_IQD, text_ITD = self.run(bundle, refinement, written, "causal")
        context = torch.cat([refinement.finish(queries_IQD).queries, text_ITD], dim=1)
        mask = causal_context_mask(self.options.queries, written.mask)
        states_ITD: Tensor = self.writer(text_ITD, context, mask)
        return states_ITD

    @property
    def read_encoders(self) -> tuple[str, ...]:
        first = super().read_encoders
        joined = self.local_encoder is not None and self.dual is None
        return (*first, self.local_encoder) if joined and self.local_encoder else first

    def attentions(self) -> tuple[AttentionSite, ...]:
        if self.dual is None or self.local_encoder is None:
            return super().attentions()
        return (*super().attentions(), *self.dual.attentions(self.local_encoder))


class _Dual(Refinement):
    """The dual attention of one pass, over the local features ``[I, P, W]``."""

    def __init__(
        self, dual: DualAttention, local_IPW: Tensor, interleaved: bool, reconstruct: bool
    ) -> None:
        self.dual, self.interleaved, self.reconstruct = dual, interleaved, reconstruct
        self.given = local_IPW
        self.local: Tensor | None = None

    def between(self, layer: int, queries_IQD: Tensor) -> Tensor:
        local = self.dual.enter(self.given) if self.local is None else self.local
        queries_IQD, self.local = self.dual.layers[layer](queries_IQD, local)
        return queries_IQD

    def finish(self, queries_IQD: Tensor) -> States:
        if not self.interleaved:
            for layer in range(len(self.dual.layers)):
                queries_IQD = self.between(layer, queries_IQD)
        trace = {}
        if self.reconstruct and self.local is not None:
            trace[LOCAL_STATES] = self.dual.leave(self.local)
        return States(queries_IQD, trace)


def local_encoder(options: XFormerOptions, shapes: Shapes) -> str:
    """Return the name of the encoder that gives M.

    Raises:
        PartError: there is none.
    """
    names = list(shapes)
    if options.local_encoder is not None:
        if options.local_encoder not in names:
            raise PartError(
                f"fusion.local_encoder {options.local_encoder!r} is no encoder of "
                f"{', '.join(names)}"
            )
        return options.local_encoder
    if len(names) < 2:
        raise PartError(
            "fusion 'xformer' takes two encoders, for global and local features (or name one in "
            f"local_encoder); got {', '.join(names) or 'none'}"
        )
    return names[1]


def _writer(options: XFormerOptions) -> CrossAttentionBlock:
    return CrossAttentionBlock(
        BlockShape(
            width=options.width,
            context=options.width,
            inner=options.width,
            heads=options.heads,
            ffn=options.ffn,
            dropout=options.dropout,
        )
    )
