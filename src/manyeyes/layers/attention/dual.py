"""X-Former's dual cross-attention: local features read the queries, then queries read them.

    m  = W_in M            (adapter "project": 1280 → 768 → 1280 at the published size)
    m' = CA1(m, Z)         local features, enriched with what the queries know
    Z' = CA2(Z, m')        queries, enriched with local detail
    M' = W_out m'          only for reconstruction

Order and roles: the paper as its notes report it. Everything else is ours and a switch (x-former.md
§2.3, §2.4). Shapes: I images, Q queries of width D, P local tokens (class token first) of width W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from manyeyes.layers.attention.cross import BlockShape, CrossAttentionBlock
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.layers.normal_linear import NormalLinear
from manyeyes.options import check_choice

ADAPTERS = ("project", "native", "narrow")
FFNS = ("both", "none", "first", "second")
NORMS = ("post", "pre")


@dataclass(frozen=True, kw_only=True)
class DualShape:
    """Sizes and switches of a dual block.

    adapter: ``project`` local features to the queries' width and back; ``native`` runs the first
    attention at their own width, in heads as wide as the queries'; ``narrow`` keeps their width
    outside and the queries' inside. ffn: in which of the two attentions.
    """

    width: int
    local: int
    heads: int
    adapter: str = "project"
    ffn: str = "both"
    self_attention: bool = False
    norm: str = "post"
    dropout: float = 0.1
    layers: int = 1
    reconstruct: bool = True

    def __post_init__(self) -> None:
        check_choice("fusion", "mae_width_adapter", self.adapter, ADAPTERS)
        check_choice("fusion", "dual_ffn", self.ffn, FFNS)
        check_choice("fusion", "dual_norm", self.norm, NORMS)

    @property
    def carried(self) -> int:
        """Width in which local features travel between the blocks."""
        return self.width if self.adapter == "project" else self.local


class DualLayer(nn.Module):
    """CA1 and CA2."""

    def __init__(self, shape: DualShape) -> None:
        super().__init__()
        width, carried = shape.width, shape.carried
        wide = shape.adapter == "native"
        heads = carried // (width // shape.heads) if wide else shape.heads
        pre_norm = shape.norm == "pre"
        self.local = CrossAttentionBlock(
            BlockShape(
                width=carried,
                context=width,
                inner=carried if wide else width,
                heads=heads,
                ffn=4 * carried if shape.ffn in ("both", "first") else 0,
                self_attention=shape.self_attention,
                pre_norm=pre_norm,
                dropout=shape.dropout,
            )
        )
        self.query = CrossAttentionBlock(
            BlockShape(
                width=width,
                context=carried,
                inner=width,
                heads=shape.heads,
                ffn=4 * width if shape.ffn in ("both", "second") else 0,
                self_attention=shape.self_attention,
                pre_norm=pre_norm,
                dropout=shape.dropout,
            )
        )

    def forward(self, queries_IQD: Tensor, local_IPC: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sequences, same shapes."""
        local = self.local(local_IPC, queries_IQD)
        return self.query(queries_IQD, local), local


class DualAttention(nn.Module):
    """Dual layers, with the width adapter around them. The fusion says where each of them acts."""

    def __init__(self, shape: DualShape) -> None:
        super().__init__()
        projects = shape.adapter == "project"
        self.w_in = NormalLinear(shape.local, shape.width) if projects else None
        self.w_out = (
            NormalLinear(shape.width, shape.local) if projects and shape.reconstruct else None
        )
        self.layers = nn.ModuleList(DualLayer(shape) for _ in range(shape.layers))

    def attentions(self, encoder: str) -> tuple[AttentionSite, ...]:
        """Return CA2 of every layer: the queries read places of the local ``encoder``."""
        layers: list[Any] = [*self.layers]
        reads = [layer.query.cross.change for layer in layers]
        return tuple(
            AttentionSite(f"Dual attention, layer {number}", read, read.weights, (encoder,))
            for number, read in enumerate(reads, 1)
        )

    def enter(self, local_IPW: Tensor) -> Tensor:
        """Bring local features to the width they travel in."""
        return local_IPW if self.w_in is None else self.w_in(local_IPW)

    def leave(self, local_IPC: Tensor) -> Tensor:
        """Bring them back to the width that the decoder reads."""
        return local_IPC if self.w_out is None else self.w_out(local_IPC)
