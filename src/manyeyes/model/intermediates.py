"""What objectives read of a model besides its logits: pixels read back, and a detector's own loss.

Shapes: I images, N patches, D width, Q objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.fusion import grid_features
from manyeyes.losses.detection import ObjectTargets, no_targets, set_prediction_loss
from manyeyes.model.inputs import PIXELS
from manyeyes.model.zero_terms import shared_zero, silent_image
from manyeyes.records import LOCAL_STATES, FeatureBundle, Masking

LANGUAGE = ("logits", "targets")
"""Intermediates that only the language model gives."""
READ_BACK = ("predicted_patches", "target_patches", "hidden_patches")
"""Intermediates that a masked autoencoder's decoder gives."""
DETECTION_LOSS = "detection_loss"
"""Intermediate that a detector's heads and its own loss give for refined objects."""
REFINED_HEADS = ("refined_logits", "refined_boxes")
"""What a detector's heads say of refined objects, until its loss is computed."""
NO_TARGETS = (
    "detection: the batch holds no targets; the processor makes them where the model has a fusion "
    "with refine: true"
)
NOTHING_REFINED = (
    "detection needs a fusion that refines a detector's objects (fusion 'shared_queries' with a "
    "detector and refine: true)"
)


def read_back(
    model: Any, trace: Mapping[str, Tensor], bundle: FeatureBundle, visual: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Pixels that a masked autoencoder's decoder reads out of the fusion's local states.

    Raises:
        PartError: the fusion gives none, or nothing was hidden.
    """
    name = model.fusion.plan.reconstructs
    if name is None or LOCAL_STATES not in trace:
        raise PartError(
            "reconstruction needs a fusion that hands local features back to their decoder "
            "(fusion 'xformer' with reconstruct: true)"
        )
    masking = grid_features(bundle, name).masking
    if masking is None:
        raise PartError(
            f"reconstruction: nothing is hidden from encoder {name!r}, so there is nothing to "
            "reconstruct; give it a mask_ratio above 0"
        )
    states = trace[LOCAL_STATES]
    encoder: Any = model.encoders[name]  # masked, hence one that reconstructs
    copies = len(states) // len(masking.restore)
    masking = Masking(masking.hidden.repeat(copies, 1), masking.restore.repeat(copies, 1))
    target = encoder.target(visual[f"{PIXELS}{name}"]).repeat(copies, 1, 1)
    found = (encoder.reconstruct(states, masking), target, masking.hidden)
    return dict(zip(READ_BACK, found, strict=True))


def detection_loss(
    model: Any, trace: dict[str, Tensor], wanted: Collection[str], targets: ObjectTargets | None
) -> dict[str, Tensor]:
    """Step 5 for a detector: its own loss of what its heads say of refined objects.

    All processes come by at this point, those whose batch holds no image too.

    Raises:
        PartError: nothing is refined.
    """
    if DETECTION_LOSS not in wanted:
        return trace
    name = model.fusion.plan.refines
    if name is None:
        raise PartError(NOTHING_REFINED)
    detector: Any = model.encoders[name]
    if REFINED_HEADS[0] in trace and targets is not None:
        logits, boxes = (trace.pop(name) for name in REFINED_HEADS)
        loss = set_prediction_loss(detector.backbone, logits, boxes, targets)
    else:
        shape = type(detector).shape(detector.spec, detector.backbone.config)
        logits = torch.zeros(0, shape.num_queries, shape.num_classes, device=model.device)
        boxes, none = logits.new_zeros(0, shape.num_queries, 4), no_targets(0, model.device)
        loss = set_prediction_loss(detector.backbone, logits, boxes, none)
        if model.training and not set(LANGUAGE) & set(wanted):  # where no embedding is silent
            loss = loss + silent_image(model, logits)
    return {**trace, DETECTION_LOSS: loss + shared_zero(model, loss)}
