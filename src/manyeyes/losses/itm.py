"""Image-text matching: does this text belong to this image? (BLIP-2 §3.1)

Shape letters: B pairs; 3B = own pairs, then texts with a hard negative image, then images with a
hard negative text. Negatives are drawn where the model runs (``layers.negatives``).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from manyeyes.losses.contract import Objective, Trace


def _itm(trace: Trace) -> Tensor:
    return F.cross_entropy(trace["match_logits"].float(), trace["match_labels"])


ITM = Objective("itm", ("match_logits", "match_labels"), "batch", _itm)
"""``match_logits`` ``[3B, 2]`` (other, same) and ``match_labels`` ``[3B]``."""
