"""Next-token prediction on supervised positions: the language-modelling loss of every recipe.

Shape letters: B samples, A answer positions, V vocabulary.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from manyeyes.losses.contract import Objective, Trace
from manyeyes.records import IGNORE


def next_token_sum(logits_BAV: Tensor, targets_BA: Tensor) -> Tensor:
    """Return the summed cross entropy of ``logits_BAV`` against the next tokens ``targets_BA``.

    Computed in float32; positions whose target is ``IGNORE`` count nothing. Without any supervised
    position the result is a zero that still carries (zero) gradients.
    """
    logits, targets = logits_BAV.flatten(0, -2).float(), targets_BA.flatten()
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")


def _next_token(trace: Trace) -> Tensor:
    return next_token_sum(trace["logits"], trace["targets"])


NEXT_TOKEN = Objective("next_token", ("logits", "targets"), "token", _next_token)
"""``logits`` ``[B, A, V]`` and the next tokens ``targets`` ``[B, A]`` they predict."""
