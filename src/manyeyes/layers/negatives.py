"""Similarities of queries and texts, and hard negatives drawn from them (BLIP-2 §2.2).

Shapes: B pairs of this process, N of all, Q queries, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from manyeyes.errors import DataError


def query_similarity(queries_IQE: Tensor, texts_JE: Tensor) -> Tensor:
    """Return ``[I, J]``: the largest product over the queries of each image with each text.

    In the precision of its inputs, also where autocast would take a lower one.
    """
    with torch.autocast(texts_JE.device.type, enabled=False):
        return torch.einsum("iqe,je->ijq", queries_IQE, texts_JE).amax(dim=-1)


def draw_negatives(
    similarity_BN: Tensor, first: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw for every row one column other than its own, in proportion to exp(similarity).

    Row i owns column ``first`` + i. Noise is drawn for all N rows and this process's are used, so
    with a generator in the same state everywhere the draw does not depend on the split.

    Raises:
        DataError: there is a single pair, so nothing else can be drawn.
    """
    rows, columns = similarity_BN.shape
    if columns < 2:
        raise DataError(
            "image-text matching needs at least two pairs over all processes to draw a negative; "
            "raise per_device_train_batch_size"
        )
    uniform = torch.rand(columns, columns, generator=generator)[first : first + rows]
    gumbel = -(-uniform.clamp_min(1e-20).log()).log()
    own = torch.arange(first, first + rows, device=similarity_BN.device)
    scores = similarity_BN.detach().float() + gumbel.to(similarity_BN.device)
    return scores.scatter(1, own[:, None], float("-inf")).argmax(dim=1)
