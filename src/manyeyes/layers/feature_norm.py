"""Features of every encoder on one scale. Shapes: D width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from manyeyes.errors import PartError

STANDARDIZE = "standardize"
FEATURE_NORMS = ("none", "layer", "rms", STANDARDIZE)
LEAST_SPREAD = 0.01
"""Least standard deviation of a channel, as a share of the level's (ours)."""


class FeatureNorm(nn.Module):
    """Brings the tokens of every chosen level, ``[..., D]``, to one scale; computed in float32.

    ``rms`` divides every token by its root mean square, ``layer`` takes its mean away first.
    ``standardize`` takes away each channel's mean over all patches of the measured images, and
    divides by its standard deviation. ``none``: as they are. Source: ours.

    Args:
        kind: one of ``FEATURE_NORMS``. widths: of the chosen levels, in order.
    """

    def __init__(self, kind: str, widths: Sequence[int]) -> None:
        super().__init__()
        self.kind = kind
        self.channels = nn.ModuleList(map(_Channels, widths if kind == STANDARDIZE else ()))

    def forward(self, tokens: Tensor, place: int, prefix: int = 0) -> Tensor:
        """Return normalised tokens ``[I, R + N, D]`` of the chosen level in ``place``.

        ``prefix``: R, the tokens that are not measured.

        Raises:
            PartError: ``standardize`` before anything was measured.
        """
        if self.kind != STANDARDIZE:
            return normalized_tokens(tokens, self.kind)
        normalized: Tensor = self.channels[place](tokens, prefix)
        return normalized

    @property
    def unmeasured(self) -> bool:
        """Whether statistics are still to be measured."""
        return any(not channels.measured for channels in self.channels)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure all tokens that pass while a block of code runs, and let them through."""
        measured = cast("list[_Channels]", list(self.channels))
        for channels in measured:
            channels.begin()
        yield
        for channels in measured:
            channels.finish()


class _Channels(nn.Module):
    """Mean and standard deviation of every channel of one level, saved with the model."""

    mean: Tensor
    std: Tensor
    count: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self._sums: Tensor | None = None
        self._known = False

    @property
    def measured(self) -> bool:
        """Whether the statistics are those of images; looked up once, for it waits for a GPU."""
        self._known = self._known or (not self.count.is_meta and bool(self.count))
        return self._known

    def forward(self, tokens: Tensor, prefix: int) -> Tensor:
        if self._sums is not None:
            patches = tokens[:, prefix:].detach().flatten(0, 1).double()
            ones = patches.new_full((1, patches.shape[1]), len(patches))
            found = torch.stack([patches.sum(dim=0), patches.square().sum(dim=0), ones[0]])
            self._sums = self._sums.to(found) + found
            return tokens
        if not self.measured and not self.count.is_meta:
            raise PartError(
                "feature_norm: standardize has no statistics yet: training measures them before "
                "its first step, and the checkpoint keeps them"
            )
        return ((tokens.float() - self.mean.float()) / self.std.float()).to(tokens.dtype)

    def begin(self) -> None:
        self._sums = torch.zeros(3, len(self.mean), dtype=torch.float64)

    def finish(self) -> None:
        assert self._sums is not None
        total, squares, counts = self._sums
        mean = total / counts
        variance = (squares / counts - mean.square()).clamp_min(0.0)
        least = LEAST_SPREAD * variance.mean().sqrt()
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt().clamp_min(least).clamp_min(1e-12))
        self.count.copy_(counts[0])
        self._sums = None


def normalized_tokens(tokens: Tensor, kind: str, eps: float = 1e-6) -> Tensor:
    """Return ``tokens`` ``[..., D]``, each of root mean square 1; computed in float32.

    ``layer``: its mean is taken away first. ``none``: as they are. Source: ours.
    """
    if kind == "none":
        return tokens
    norm = functional.layer_norm if kind == "layer" else functional.rms_norm
    return norm(tokens.float(), tokens.shape[-1:], eps=eps).to(tokens.dtype)
