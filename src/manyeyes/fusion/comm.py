"""COMM: merge many levels of each encoder, align, join, project (arXiv 2310.08825).

    v̄_e = Σ_i w_i · Linear_i(LN_i(v_e^i))      per encoder e          (§1.3)
    v̄   = [v̄_1, MLP(v̄_2)]                      align and join         (§1.4, §1.5)
    v̂   = Linear_out(v̄)                         to the language width

Shapes: I images, N patches, D encoder width, C channels joined, K visual tokens, H language-model
width.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manyeyes.errors import PartError
from manyeyes.fusion.contract import (
    Fusion,
    FusionPlan,
    Shapes,
    common_grid,
    grid_features,
    merged_grid,
)
from manyeyes.layers.level_merge import LLN_ORDERS, MERGES, WEIGHT_NORMS, LevelMerge
from manyeyes.layers.mlp import PROJECTORS, MlpStack, build_projector
from manyeyes.layers.patches import merge_patches
from manyeyes.options import check_choice, check_counts
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence

ALIGNMENTS = ("mlp", "linear", "none")
JOINS = ("channel", "sum", "token")


@dataclass(frozen=True, kw_only=True)
class CommOptions:
    """Every switch of COMM §2 and §9. What the paper leaves open has our default, marked (ours)."""

    merge: str = "lln_layerscale"
    """How the levels of one encoder become one: ``lln_layerscale`` (LayerNorm, Linear and a weight
    for each level), ``layerscale`` (a weight for each), ``conv_layerscale`` (convolution,
    BatchNorm and a weight), ``mean``, or ``single`` for one level."""
    weight_norm: str = "softmax"
    """``softmax`` makes the weights of the levels add up to 1 (ours). ``none`` leaves them free."""
    lln_order: str = "ln_linear"
    """``ln_linear`` as in the paper's equation, or ``linear_ln``."""
    lln_shared: bool = False
    """One LayerNorm and Linear for all levels."""
    conv_kernel: int = 3
    """Side of the kernel of ``conv_layerscale`` (ours: 3)."""
    align: str = "mlp"
    """Module after the merge of the encoders in ``align_encoders``: ``mlp``, ``linear`` or
    ``none``."""
    align_encoders: tuple[str, ...] | None = None
    """Names of the encoders that are aligned. By default every encoder but the first."""
    mlp_blocks: int = 1
    """Blocks of the aligning MLP."""
    mlp_ratio: int = 4
    """Its inner width, as a multiple of the encoder's."""
    mlp_residual: bool = False
    """Add each block's input to its output (ours)."""
    mlp_act: str = "gelu"
    """Its activation (ours)."""
    join: str = "channel"
    """How encoders meet: side by side in ``channel`` (ours), ``sum``, or one after the other as
    tokens (``token``)."""
    projector: str = "linear"
    """To the language model, see ``PROJECTORS``."""
    merge_patches: int = 1
    """Fold f x f patches into one token (ours: 1)."""

    def __post_init__(self) -> None:
        check_choice("fusion", "merge", self.merge, MERGES)
        check_choice("fusion", "weight_norm", self.weight_norm, WEIGHT_NORMS)
        check_choice("fusion", "lln_order", self.lln_order, LLN_ORDERS)
        check_choice("fusion", "align", self.align, ALIGNMENTS)
        check_choice("fusion", "join", self.join, JOINS)
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_counts("fusion", merge_patches=self.merge_patches)

    def aligned(self, encoders: Sequence[str]) -> tuple[str, ...]:
        """Names of the encoders whose merged features pass the alignment module."""
        if self.align == "none":
            return ()
        return tuple(encoders[1:]) if self.align_encoders is None else self.align_encoders


class CommFusion(Fusion):
    """COMM over any number of encoders; the paper's two are CLIP (first) and DINOv2 (aligned)."""

    options_class = CommOptions
    options: CommOptions

    def __init__(self, options: CommOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        self.encoders = tuple(shapes)
        self.mergers = nn.ModuleDict(
            {
                name: LevelMerge(
                    shape.width,
                    len(shape.level_indices),
                    merge=options.merge,
                    weight_norm=options.weight_norm,
                    lln_order=options.lln_order,
                    lln_shared=options.lln_shared,
                    conv_kernel=options.conv_kernel,
                )
                for name, shape in shapes.items()
            }
        )
        self.align = nn.ModuleDict(
            {name: _alignment(options, shapes[name].width) for name in options.aligned([*shapes])}
        )
        widths = [shape.width for shape in shapes.values()]
        joined = sum(widths) if options.join == "channel" else widths[0]
        self.projector = build_projector(
            options.projector, joined * options.merge_patches**2, out_width
        )

    @classmethod
    def check(cls, options: CommOptions, shapes: Shapes) -> None:
        common_grid(shapes, "comm")
        unknown = set(options.aligned([*shapes])) - set(shapes)
        if unknown:
            raise PartError(f"fusion.align_encoders names {sorted(unknown)}, not an encoder")
        widths = {name: shape.width for name, shape in shapes.items()}
        if options.join != "channel" and len(set(widths.values())) > 1:
            raise PartError(f"fusion.join {options.join!r} needs equal widths, got {widths}")
        if options.merge == "single":
            several = {n: s.level_indices for n, s in shapes.items() if len(s.level_indices) != 1}
            if several:
                raise PartError(f"fusion.merge 'single' takes one level per encoder, got {several}")
        if options.align == "mlp" and options.mlp_blocks > 2 and not options.mlp_residual:
            warnings.warn(
                f"{options.mlp_blocks} plain MLP blocks lose the signal (COMM §1.4); "
                "set fusion.mlp_residual: true",
                stacklevel=2,
            )

    @classmethod
    def planned(cls, options: CommOptions, shapes: Shapes) -> FusionPlan:
        grid = merged_grid(common_grid(shapes, "comm"), options.merge_patches, "comm")
        averaged = options.merge == "mean"
        if options.join == "token":
            return FusionPlan(tokens=math.prod(grid) * len(shapes), averaged=averaged)
        return FusionPlan(tokens=math.prod(grid), grid=grid, averaged=averaged)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. merge levels and align, per encoder   2. fold patches   3. join   4. project."""
        grid = grid_features(bundle, self.encoders[0]).grid
        factor = self.options.merge_patches
        parts_INC = [merge_patches(x, grid, factor) for x in self.branches(bundle).values()]
        if self.options.join == "channel":
            joined_IKC = torch.cat(parts_INC, dim=-1)
        elif self.options.join == "token":
            joined_IKC = torch.cat(parts_INC, dim=1)
        else:
            joined_IKC = torch.stack(parts_INC).sum(dim=0)
        return VisualEvidence(tokens=self.projector(joined_IKC))

    def branches(self, bundle: FeatureBundle) -> dict[str, Tensor]:
        """Return v̄_1, MLP(v̄_2), ... by encoder name, each ``[I, N, D]``, before the join."""
        merged = {}
        for name in self.encoders:
            features = grid_features(bundle, name)
            merged_IND = self.mergers[name](features.levels, features.grid)
            merged[name] = self.align[name](merged_IND) if name in self.align else merged_IND
        return merged

    def level_weights(self) -> dict[str, Tensor]:
        return {name: merger.weights().detach() for name, merger in self.mergers.items()}  # type: ignore[operator]


def _alignment(options: CommOptions, width: int) -> nn.Module:
    if options.align == "linear":
        return nn.Linear(width, width)
    return MlpStack(
        width,
        num_blocks=options.mlp_blocks,
        ratio=options.mlp_ratio,
        activation=options.mlp_act,
        residual=options.mlp_residual,
    )
