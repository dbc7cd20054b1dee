"""Set prediction (DETR, arXiv 2005.12872): one-to-one matching, then class, L1 and box overlap.

The terms, their weights and the costs of matching are the detector's own, read from its
configuration; for DETR costs 1, 5, 2 and weights 1 (0.1 for "nothing"), 5, 2.

Shape letters: I images, Q queries, C classes, G the most objects of an image.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.losses.contract import Objective, Trace

UNKNOWN = -1
"""Number of objects of an image in which nobody has marked them."""


@dataclass(frozen=True)
class ObjectTargets:
    """What there is in I images, padded behind each image's own number of objects.

    ``counts`` ``[I]``, ``UNKNOWN`` where nobody looked; ``classes`` ``[I, G]``; ``boxes``
    ``[I, G, 4]``: cx, cy, w, h in 0..1.
    """

    counts: Tensor
    classes: Tensor
    boxes: Tensor


def set_prediction_loss(
    detector: Any, logits_IQC: Tensor, boxes_IQ4: Tensor, targets: ObjectTargets
) -> Tensor:
    """Return the loss that ``detector``, a model of ``transformers``, has for its last layer.

    Images whose objects are unknown do not count; without any other image it is zero.

    Raises:
        PartError: the detector has no such loss, or images and targets disagree in number.
    """
    if len(targets.counts) != len(logits_IQC):
        raise PartError(
            f"detection: targets of {len(targets.counts)} images, but {len(logits_IQC)} images"
        )
    known = targets.counts >= 0
    if not bool(known.any()):
        return logits_IQC.sum() * 0.0 + boxes_IQ4.sum() * 0.0
    config = copy.copy(detector.config)
    config.auxiliary_loss = False  # only the last layer is refined
    labels = [
        {"class_labels": classes[:count], "boxes": boxes[:count]}
        for count, classes, boxes in zip(
            targets.counts[known].tolist(),
            targets.classes[known],
            targets.boxes[known].float(),
            strict=True,
        )
    ]
    logits, boxes = logits_IQC[known].float(), boxes_IQ4[known].float()
    loss, _, _ = detector.loss_function(logits, labels, logits.device, boxes, config, None, None)
    found: Tensor = loss
    return found


def _detection(trace: Trace) -> Tensor:
    return trace["detection_loss"]


DETECTION = Objective("detection", ("detection_loss",), "batch", _detection)
"""``detection_loss``: of the refined objects, computed where the detector is at hand."""
