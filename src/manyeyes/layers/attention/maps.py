"""Attention maps without slow attention: weights are computed anew from what a module was given.

A fusion names the attentions in which its queries read an encoder (`AttentionSite`). While they are
watched, a hook of each takes softmax(Q Kᵀ / √d) from the module's own projections; the pass itself
runs the same kernels and gives the same output.

Shapes: B samples, h heads, X positions that read, Y positions that are read, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AttentionSite:
    """One attention of a fusion whose map can be drawn.

    ``weights`` takes what the module's ``forward`` takes and returns ``[B, h, X, Y]``, rows that
    sum to 1. ``encoders``: whose tokens, or objects, the columns are, in order. ``joint``: number
    of queries that are also among what is read; they are the first rows, the only ones of interest,
    and the first columns. 0 = all rows are queries, and none is a column.
    """

    title: str
    module: nn.Module
    weights: Callable[..., Tensor]
    encoders: tuple[str, ...]
    joint: int = 0


def attention_weights(
    query_BhXd: Tensor, key_BhYd: Tensor, mask_BXY: Tensor | None = None
) -> Tensor:
    """Return softmax(Q Kᵀ / √d) in float32, ``[B, h, X, Y]``; ``mask_BXY``: true = may be read."""
    scores = (query_BhXd @ key_BhYd.transpose(-1, -2)).float() / query_BhXd.shape[-1] ** 0.5
    if mask_BXY is not None:
        scores = scores.masked_fill(~mask_BXY, -torch.inf)
    return scores.softmax(dim=-1)


@contextmanager
def watching(sites: Sequence[AttentionSite]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that fills while the modules run: title → weights of the last pass."""
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            hook = partial(_note, site, found)
            stack.callback(site.module.register_forward_hook(hook, with_kwargs=True).remove)
        yield found


@torch.no_grad()
def _note(
    site: AttentionSite,
    found: dict[str, Tensor],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any,
) -> None:
    found[site.title] = site.weights(*args, **kwargs)
