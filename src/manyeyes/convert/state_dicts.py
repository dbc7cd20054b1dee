"""What readers of foreign ``.pth`` files share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from manyeyes.checkpoints.pth import read_pth

__all__ = ["read_pth", "renamed", "rotated"]


def rotated(tensor: Tensor, heads: int) -> Tensor:
    """Return rows of a query or key projection in the order ``transformers`` keeps them.

    The original LLaMA turns neighbouring pairs of a head, ``transformers`` the head's two halves;
    the rows of W_q, W_k and of their biases move alike. ``tensor``: ``[heads * c, ...]``.
    """
    pairs = tensor.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).reshape(tensor.shape)


def renamed(
    state: Mapping[str, Tensor], name: Callable[[str], str | None]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors that ``name`` knows, renamed, and the names it answered with None."""
    known: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in state.items():
        target = name(key)
        if target is None:
            unknown.append(key)
        else:
            known[target] = tensor
    return known, unknown
