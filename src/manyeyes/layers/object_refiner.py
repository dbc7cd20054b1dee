"""Object descriptors that take up what the shared queries know (MR-MLLM E8, feature mode).

Shapes: I images, Q object queries, K shared queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REFINER_HEADS = 8


class ObjectRefiner(nn.Module):
    """``O' = O + tanh(g) · CrossAttention(LN(O), LN(Q_shared))`` with a gate that starts at zero.

    At g = 0 the descriptors, and so the detector's own heads over them, are unchanged bit for bit.
    Form and 8 heads are ours.
    """

    def __init__(self, object_width: int, query_width: int, heads: int = REFINER_HEADS) -> None:
        super().__init__()
        self.norm_objects = nn.LayerNorm(object_width)
        self.norm_queries = nn.LayerNorm(query_width)
        self.heads = heads
        self.query = nn.Linear(object_width, object_width)
        self.key = nn.Linear(query_width, object_width)
        self.value = nn.Linear(query_width, object_width)
        self.out = nn.Linear(object_width, object_width)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, objects_IQD: Tensor, shared_IKD: Tensor) -> Tensor:
        """Return refined descriptors, same shape as ``objects_IQD``."""
        shared = self.norm_queries(shared_IKD)
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, x in (
                (self.query, self.norm_objects(objects_IQD)),
                (self.key, shared),
                (self.value, shared),
            )
        )
        read = nn.functional.scaled_dot_product_attention(query, key, value)
        return objects_IQD + torch.tanh(self.gate) * self.out(read.transpose(1, 2).flatten(2))
