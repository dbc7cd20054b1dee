"""Features of every encoder on one scale. Shapes: D width."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

FEATURE_NORMS = ("none", "layer", "rms")


def normalized_tokens(tokens: Tensor, kind: str, eps: float = 1e-6) -> Tensor:
    """Return ``tokens`` ``[..., D]``, each of root mean square 1; computed in float32.

    ``layer``: its mean is taken away first. ``none``: as they are. Source: ours.
    """
    if kind == "none":
        return tokens
    norm = functional.layer_norm if kind == "layer" else functional.rms_norm
    return norm(tokens.float(), tokens.shape[-1:], eps=eps).to(tokens.dtype)
