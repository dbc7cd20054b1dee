"""Image-grounded text generation: write the caption, seeing the queries and what is written.

Shape letters: S caption words of this process, V vocabulary.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from manyeyes.layers.ranks import rank_and_world, total
from manyeyes.losses.contract import Objective, Trace

SMOOTHING = 0.1
"""Label smoothing (LAVIS)."""


def caption_loss(logits_SV: Tensor, words_S: Tensor) -> Tensor:
    """Return the mean cross entropy over the words of all processes, times this one's share.

    Averaged over processes it is the mean over all words, however they are split.
    """
    summed = F.cross_entropy(logits_SV.float(), words_S, label_smoothing=SMOOTHING, reduction="sum")
    words = total(words_S.new_tensor(words_S.numel()))
    return summed * rank_and_world()[1] / words.clamp_min(1)


def _itg(trace: Trace) -> Tensor:
    return caption_loss(trace["caption_logits"], trace["caption_targets"])


ITG = Objective("itg", ("caption_logits", "caption_targets"), "batch", _itg)
"""``caption_logits`` ``[S, V]`` and the words ``caption_targets`` ``[S]``; padding left out."""
