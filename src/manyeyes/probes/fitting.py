"""How every probe is trained: AdamW, a rate that falls to zero, batches from a seed.

Probes are trained alike, so that figures of different features can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

STEPS = 250
BATCH = 1024


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear map that starts at zero, so that it has no seed of its own."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def descend(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    rows: int,
    *,
    rate: float,
    seed: int,
    batch: int = BATCH,
    steps: int = STEPS,
) -> None:
    """Minimise ``loss`` of batches of row numbers, drawn with replacement from ``rows``."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        value = loss(torch.randint(rows, (batch,), generator=rng))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def standardized(
    train: Tensor, held: Tensor, dims: tuple[int, ...] = (0,)
) -> tuple[Tensor, Tensor]:
    """Return both with mean 0 and deviation 1 of ``train`` over ``dims``."""
    mean, std = train.mean(dim=dims), train.std(dim=dims) + 1e-5
    return (train - mean) / std, (held - mean) / std
