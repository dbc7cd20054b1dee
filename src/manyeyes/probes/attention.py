"""Attention probes: one query per question reads the patches, a linear map reads the result.

    query = W_q · what is read at the place + position     or a learned vector per named class
    out   = Linear(Σ_n softmax(query · key_n) value_n)      keys and values: W x_n + position_n
    centre = Σ_n softmax(query · key_n) centre_n            where it looks, mean over heads

A linear probe sees what is linearly there at a known place or on average; this one may also look
for where it is. Ours, after the attentive probes of self-supervised models; small on purpose.
Shapes: B pictures, N patches, D width, M rows, P places of a row, A width of the probe, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from manyeyes.probes.fitting import zero_linear
from manyeyes.probes.places import patch_centres, read_places

WIDTH, HEADS, WAVES = 64, 4, 4
RATE, STEPS, BATCH = 5e-3, 300, 128
"""Training of an attention probe (see ``fitting.descend``)."""


class AttentionProbe(nn.Module):
    """Reads ``[M, N, D]`` patches for M questions.

    Args:
        width: D. outputs: numbers per question. classes: things a question may name, 0 = none.
        places: places that a question gives, P.
    """

    def __init__(self, width: int, outputs: int, *, classes: int = 0, places: int = 0) -> None:
        super().__init__()
        self.places = places
        self.key, self.value = nn.Linear(width, WIDTH), nn.Linear(width, WIDTH)
        self.position = nn.Linear(4 * WAVES, WIDTH)
        self.query = nn.Linear(width, WIDTH) if places else None
        self.named = nn.Embedding(max(1, classes), WIDTH)
        self.out = zero_linear(max(1, places) * WIDTH, outputs)

    def forward(self, patches: Tensor, named: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return out ``[M, outputs]`` and centre ``[M, 2]``, (x, y) in 0..1.

        ``named`` ``[M]``: the class; ``place`` ``[M, P, 2]`` in -1..1.
        """
        rows, count, _ = patches.shape
        where = self.position(waves(patch_centres(count)))
        keys, values = self.key(patches) + where, self.value(patches) + where
        queries = self.named(named)[:, None]
        if self.query is not None:
            own = torch.arange(rows)
            seen = [read_places(patches, own, place[:, p]) for p in range(self.places)]
            there = self.position(waves((place + 1) / 2))
            queries = queries + self.query(torch.stack(seen, dim=1)) + there
        scores = _heads(queries) @ _heads(keys).transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        weights = scores.softmax(dim=-1)
        mixed = (weights @ _heads(values)).transpose(1, 2).flatten(2)
        centre = weights.mean(dim=(1, 2)) @ patch_centres(count)
        # what the question itself shows stays readable beside what it finds
        return self.out((mixed + queries).flatten(1)), centre


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def waves(points: Tensor) -> Tensor:
    """Return sines and cosines of places in 0..1: ``[..., 2]`` -> ``[..., 4 * WAVES]``."""
    rates = math.pi * 2.0 ** torch.arange(WAVES)
    angles = (points[..., None] * rates).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
