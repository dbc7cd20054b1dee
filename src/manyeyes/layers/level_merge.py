"""Merging the levels of one encoder into one feature map (COMM §1.3 and its variants, §2).

Shapes: I images, N patches, D width, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MERGES = ("lln_layerscale", "layerscale", "conv_layerscale", "mean", "single")
WEIGHT_NORMS = ("softmax", "none")
LLN_ORDERS = ("ln_linear", "linear_ln")


class LevelMerge(nn.Module):
    """``sum_i w_i · T_i(z_i)`` over the levels ``z_i`` of one encoder.

    ``T_i`` is LayerNorm then Linear (``lln_layerscale``), convolution then BatchNorm
    (``conv_layerscale``) or the identity (``layerscale``). The weights are free logits under a
    softmax in float32 (``weight_norm="softmax"``) or free scalars starting at 1/L (``"none"``).
    ``mean`` and ``single`` have no parameters.
    """

    def __init__(
        self,
        width: int,
        num_levels: int,
        *,
        merge: str,
        weight_norm: str = "softmax",
        lln_order: str = "ln_linear",
        lln_shared: bool = False,
        conv_kernel: int = 3,
    ) -> None:
        super().__init__()
        self.merge, self.weight_norm, self.num_levels = merge, weight_norm, num_levels
        weighted = merge in ("lln_layerscale", "layerscale", "conv_layerscale")
        if weighted:
            start = 0.0 if weight_norm == "softmax" else 1.0 / num_levels
            self.scales = nn.Parameter(torch.full((num_levels,), start))
        if merge == "lln_layerscale":
            copies = 1 if lln_shared else num_levels
            self.maps = nn.ModuleList(_lln(width, lln_order) for _ in range(copies))
        elif merge == "conv_layerscale":
            self.maps = nn.ModuleList(_conv_bn(width, conv_kernel) for _ in range(num_levels))

    def weights(self) -> Tensor:
        """Return the L mixing weights in float32 (uniform for ``mean`` and ``single``)."""
        if self.merge in ("mean", "single"):
            return torch.full((self.num_levels,), 1.0 / self.num_levels)
        scales = self.scales.float()
        return scales.softmax(dim=0) if self.weight_norm == "softmax" else scales

    def forward(self, levels_IND: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Merge L tensors ``[I, N, D]`` into one, level by level so that none are stacked."""
        if self.merge == "single":
            return levels_IND[0]
        if self.merge == "mean":
            return mean_level(levels_IND)
        weights = self.weights().to(levels_IND[0].device)
        merged = torch.zeros_like(levels_IND[0])
        for index, level in enumerate(levels_IND):
            merged = merged + weights[index].to(level.dtype) * self._map(index, level, grid)
        return merged

    def _map(self, index: int, level_IND: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.merge == "lln_layerscale":
            return self.maps[index % len(self.maps)](level_IND)
        if self.merge == "conv_layerscale":
            images, _, width = level_IND.shape
            picture = level_IND.transpose(1, 2).reshape(images, width, *grid)
            return self.maps[index](picture).flatten(2).transpose(1, 2)
        return level_IND


def mean_level(levels_IND: Sequence[Tensor]) -> Tensor:
    """Return the mean of the levels ``[I, N, D]``; of one level, the level itself."""
    if len(levels_IND) == 1:
        return levels_IND[0]
    share = 1.0 / len(levels_IND)
    merged = share * levels_IND[0]
    for level in levels_IND[1:]:
        merged = merged + share * level
    return merged


def _lln(width: int, order: str) -> nn.Sequential:
    norm, linear = nn.LayerNorm(width), nn.Linear(width, width)
    return nn.Sequential(norm, linear) if order == "ln_linear" else nn.Sequential(linear, norm)


def _conv_bn(width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width)
    )
