"""Image-text contrast: an image is to find its text among all texts, and the other way round.

Shape letters: B pairs of this process, N pairs of all processes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from manyeyes.errors import DataError
from manyeyes.losses.contract import Objective, Trace

SMOOTHING = 0.1
"""Label smoothing (LAVIS)."""


def contrastive_loss(image_to_text_BN: Tensor, text_to_image_BN: Tensor, own_B: Tensor) -> Tensor:
    """Return the mean of both directions' cross entropy; ``own_B``: column of each row's pair.

    Similarities come divided by the temperature. Without a momentum encoder or a queue (BLIP-2
    §3.1).

    Raises:
        DataError: a single pair, which has nothing to be told apart from.
    """
    if image_to_text_BN.shape[1] < 2:
        raise DataError(
            "image-text contrast needs at least two pairs over all processes; raise "
            "per_device_train_batch_size"
        )
    losses = [
        F.cross_entropy(similarity.float(), own_B, label_smoothing=SMOOTHING)
        for similarity in (image_to_text_BN, text_to_image_BN)
    ]
    return (losses[0] + losses[1]) / 2


def _itc(trace: Trace) -> Tensor:
    return contrastive_loss(trace["image_to_text"], trace["text_to_image"], trace["pair_index"])


ITC = Objective("itc", ("image_to_text", "text_to_image", "pair_index"), "batch", _itc)
"""Similarities ``[B, N]`` over the temperature, the largest over queries, and ``pair_index``."""
