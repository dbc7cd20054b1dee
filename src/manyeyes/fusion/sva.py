"""Cambrian-1's spatial vision aggregator (SVA; arXiv 2406.16860 §4), the connector alone.

    F_e    = LN(MLP_e(x_e))         every encoder to the width C
    X_g    = x_g, repeated L x L    one learned query per group g, then D layers in which query
                                    (i, j) reads window (i, j), m_e x m_e patches, of each encoder's
                                    map of m_e L x m_e L patches (``layers.attention.windows``)
    tokens = MLP([X_1, ..., X_G])   groups joined by channels, to the language width

The paper repeats the aggregator between the layers of the language model. Ours: only the
connector's aggregation, not the layers inside the language model; no token for the end of a row,
and padding is read as any patch. What the paper leaves open is as in its released model unless
marked ours.

Shapes: I images, N patches, K = L x L places, C width, G groups, H language-model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion.contract import Fusion, FusionPlan, Shapes, check_one_level, grid_features
from manyeyes.layers.attention.windows import WindowLayers, WindowShape
from manyeyes.layers.mlp import PROJECTORS, build_projector
from manyeyes.layers.patches import split_windows
from manyeyes.options import check_choice, check_counts, check_heads
from manyeyes.records import FeatureBundle, FusionText, VisualEvidence


@dataclass(frozen=True, kw_only=True)
class SvaOptions:
    """Sizes of the aggregator; the defaults are the released models'."""

    grid: tuple[int, int] | None = None
    """Rows and columns of queries, L x L in the paper. By default the smallest of the encoders'
    grids (ours)."""
    width: int = 1024
    """Of the queries (C)."""
    heads: int = 16
    """Of the attention."""
    depth: int = 3
    """Number of layers (D)."""
    groups: int = 1
    """Groups of queries (G)."""
    context: bool = True
    """Each layer also reads the mean over the first encoder's map. The released models do, the
    paper's equations do not."""
    projector: str = "mlp2x"
    """To the language model, see ``PROJECTORS``."""

    def __post_init__(self) -> None:
        check_choice("fusion", "projector", self.projector, PROJECTORS)
        check_choice("fusion", "context", self.context, (True, False))
        check_counts("fusion", depth=self.depth, groups=self.groups)
        check_heads("fusion", self.width, self.heads)
        if self.grid is None:
            return
        if not isinstance(self.grid, tuple) or len(self.grid) != 2:
            raise RecipeError(f"fusion.grid: {self.grid!r} is not [rows, columns]")
        check_counts("fusion.grid", rows=self.grid[0], columns=self.grid[1])


class SvaFusion(Fusion):
    """One level of each of any number of encoders; their grids may differ."""

    options_class = SvaOptions

    def __init__(self, options: SvaOptions, shapes: Shapes, out_width: int) -> None:
        super().__init__(options, shapes, out_width)
        width, self.grid = options.width, query_grid(options, shapes)
        self.context = options.context
        self.adapters = nn.ModuleDict(
            {name: _adapter(shape.width, width) for name, shape in shapes.items()}
        )
        self.queries = nn.Parameter(torch.randn(options.groups, width) / out_width**0.5)
        places = self.grid[0] * self.grid[1]
        layer = WindowShape(
            width=width,
            heads=options.heads,
            sizes={name: shape.num_patches // places for name, shape in shapes.items()},
            context=options.context,
        )
        self.groups = nn.ModuleList(
            WindowLayers(layer, options.depth) for _ in range(options.groups)
        )
        self.projector = build_projector(options.projector, options.groups * width, out_width)

    @classmethod
    def check(cls, options: SvaOptions, shapes: Shapes) -> None:
        check_one_level(shapes, "sva")
        query_grid(options, shapes)

    @classmethod
    def planned(cls, options: SvaOptions, shapes: Shapes) -> FusionPlan:
        grid = query_grid(options, shapes)
        return FusionPlan(tokens=math.prod(grid), grid=grid)

    def forward(self, bundle: FeatureBundle, question: FusionText | None = None) -> VisualEvidence:
        """1. adapt   2. cut into windows   3. aggregate, per group   4. join and project."""
        maps = {}
        for name, adapter in self.adapters.items():
            features = grid_features(bundle, name)
            maps[name] = split_windows(adapter(features.levels[0]), features.grid, self.grid)
        first = next(iter(maps.values()))  # [I, K, S, C]
        images, places = first.shape[:2]
        context = None
        if self.context:
            context = first.mean(dim=(1, 2))[:, None].expand(-1, places, -1).flatten(0, 1)
        windows = {name: x.flatten(0, 1) for name, x in maps.items()}
        read = [
            layers(query.to(first.dtype).expand(images * places, -1), windows, context)
            for query, layers in zip(self.queries, self.groups, strict=True)
        ]
        joined = torch.cat(read, dim=-1).unflatten(0, (images, places))
        return VisualEvidence(tokens=self.projector(joined))


def query_grid(options: SvaOptions, shapes: Shapes) -> tuple[int, int]:
    """Return the grid of queries.

    Raises:
        PartError: it does not divide an encoder's grid; names the encoder and both remedies.
    """
    smallest = min(shapes.values(), key=lambda shape: shape.num_patches).grid
    grid = options.grid or smallest
    for name, shape in shapes.items():
        if shape.grid[0] % grid[0] or shape.grid[1] % grid[1]:
            raise PartError(
                f"fusion 'sva': the query grid {grid[0]}x{grid[1]} does not divide the grid "
                f"{shape.grid[0]}x{shape.grid[1]} of {name!r}. Set `fusion.grid: [rows, columns]` "
                "to one that divides every encoder's, or declare `resample: [rows, columns]` on it"
            )
    return grid


def _adapter(in_width: int, width: int) -> nn.Sequential:
    return nn.Sequential(*build_projector("mlp2x", in_width, width), nn.LayerNorm(width))
