"""By what stored answers are known again: the weights that gave them, and how they were decoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def answers_fingerprint(
    model: nn.Module, generation: Mapping[str, Any], dtype: torch.dtype | None = None
) -> str:
    """SHA-256 over all weights and the generation arguments.

    ``dtype``: as if the model had been loaded in it; None = as it is.
    """
    digest = hashlib.sha256(json.dumps(generation, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
