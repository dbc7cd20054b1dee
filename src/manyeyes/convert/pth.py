"""Foreign ``.pth`` files, read without running what a pickle may contain."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manyeyes.errors import CheckpointError


def read_pth(file: Path) -> dict[str, Any]:
    """Return the dictionary a ``.pth`` file holds: tensors, containers, texts and numbers only.

    Raises:
        CheckpointError: missing, damaged, no dictionary, or more than plain data.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{file}: is no checkpoint of plain tensors ({reason})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: holds a {type(found).__name__}, expected a dictionary")
    return found


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
