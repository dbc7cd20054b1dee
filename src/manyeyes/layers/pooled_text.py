"""Texts as the mean of their token embeddings, without a gradient to the table.

Shapes: I images, O texts per image, T tokens, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from manyeyes.records import TextFeatures


@torch.no_grad()
def pool_text(table: nn.Module, ids_IOT: Tensor, mask_IOT: Tensor) -> TextFeatures:
    """Return one vector per text; ``mask_IOT``: 1 = a token. A text without tokens is none."""
    real = mask_IOT.bool()
    embedded_IOTH = table(ids_IOT.masked_fill(~real, 0)) * real[..., None]
    number_IO1 = real.sum(dim=-1, keepdim=True).clamp(min=1)
    return TextFeatures(embedded_IOTH.sum(dim=2) / number_IO1, real.any(dim=-1))
