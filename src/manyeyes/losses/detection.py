"""Set prediction (DETR, arXiv 2005.12872): one-to-one matching, then class, L1 and box overlap.

The terms, their weights and the costs of matching are the detector's own, read from its
configuration; for DETR costs 1, 5, 2 and weights 1 (0.1 for "nothing"), 5, 2.

With several processes the loss is that of the images of all of them: both of its means, over boxes
and over weighted classes, are not means of the processes' means.

Shape letters: I images, Q queries, C classes, G the most objects of an image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.layers.ranks import join_rows, largest, of_all_ranks
from manyeyes.losses.contract import Objective, Trace
from manyeyes.perception.targets import UNKNOWN

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


def no_targets(images: int, device: torch.device) -> ObjectTargets:
    """Return the targets of ``images`` whose objects are unknown."""
    counts = torch.full((images,), UNKNOWN, device=device)
    return ObjectTargets(counts, counts.new_zeros(images, 0), torch.zeros(images, 0, 4).to(device))


def set_prediction_loss(
    detector: Any, logits_IQC: Tensor, boxes_IQ4: Tensor, targets: ObjectTargets
) -> Tensor:
    """Return the loss that ``detector``, a model of ``transformers``, has for its last layer.

    It is that of the images of all processes, each of which must call this, without any image too.
    Images whose objects are unknown do not count; without any other image it is zero.

    Raises:
        PartError: the detector has no such loss, or images and targets disagree in number.
    """
    if len(targets.counts) != len(logits_IQC):
        raise PartError(
            f"detection: targets of {len(targets.counts)} images, but {len(logits_IQC)} images"
        )
    every = _joined(targets)
    logits, boxes = join_rows(logits_IQC.float()), join_rows(boxes_IQ4.float())
    known = every.counts >= 0
    if not bool(known.any()):
        return logits.sum() * 0.0 + boxes.sum() * 0.0
    config = copy.copy(detector.config)
    config.auxiliary_loss = False  # only the last layer is refined
    labels = [
        {"class_labels": classes[:count], "boxes": where[:count]}
        for count, classes, where in zip(
            every.counts[known].tolist(), every.classes[known], every.boxes[known], strict=True
        )
    ]
    logits, boxes = logits[known], boxes[known]
    with _one_process():
        loss, *_ = detector.loss_function(logits, labels, logits.device, boxes, config, None, None)
    return of_all_ranks(loss)


def _joined(targets: ObjectTargets) -> ObjectTargets:
    most = largest(targets.classes.shape[1], targets.classes.device)
    missing = most - targets.classes.shape[1]
    classes = torch.nn.functional.pad(targets.classes, (0, missing))
    boxes = torch.nn.functional.pad(targets.boxes.float(), (0, 0, 0, missing))
    counts = join_rows(targets.counts, UNKNOWN)
    return ObjectTargets(counts, join_rows(classes), join_rows(boxes))


@contextmanager
def _one_process() -> Iterator[None]:
    """Let no loss divide by what it believes to be the boxes of a process.

    The images of all processes are here. Besides, transformers (5.23) takes the mean of the
    processes' numbers and divides it by the number of processes once more.
    """
    state = PartialState._shared_state
    kept = dict(state)
    state.clear()
    try:
        yield
    finally:
        state.update(kept)


def _detection(trace: Trace) -> Tensor:
    return trace["detection_loss"]


DETECTION = Objective("detection", ("detection_loss",), "batch", _detection)
"""``detection_loss``: of the refined objects, computed where the detector is at hand."""
