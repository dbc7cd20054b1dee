"""A soft prompt of one token: a trainable vector in the place of one word (LION §4.2).

Shapes: B samples, T positions, H language-model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """One vector ``[H]`` for all inputs, drawn from N(0, ``std``)."""

    def __init__(self, width: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.vector = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.vector, std=self.std)

    def forward(self, embeddings_BTH: Tensor, slots_BT: Tensor) -> Tensor:
        """Return the embeddings with the vector at every slot, however many a sample has."""
        vector = self.vector.to(embeddings_BTH.dtype)
        return torch.where(slots_BT[..., None], vector, embeddings_BTH)
