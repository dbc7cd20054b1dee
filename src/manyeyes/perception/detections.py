"""What a detector's tensors say: labelled boxes in pixels of each original image.

Shapes: Q object queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.records import Box, Detection, Detections, FeatureBundle, ObjectFeatures

UNUSED_LABELS = ("", "N/A")
"""Names of classes that a checkpoint numbers but never learnt (COCO's gaps)."""


def read_objects(
    features: ObjectFeatures,
    image_sizes: Sequence[tuple[int, int]],
    *,
    min_score: float = 0.0,
) -> list[Detections]:
    """Return every image's objects, best first: each query as its likeliest class.

    Args:
        image_sizes: (width, height) of the original images in pixels.
        min_score: objects below it are left out, as are boxes outside the image.
    """
    scores, classes = features.scores.max(dim=-1)
    found = []
    for image, size in enumerate(image_sizes):
        rows = zip(
            scores[image].tolist(),
            classes[image].tolist(),
            to_corners(features.boxes[image].float(), size).tolist(),
            strict=True,
        )
        objects = []
        for score, kind, corners in rows:
            box = _within(corners, size)
            label = features.labels[kind]
            if score >= min_score and box is not None and label not in UNUSED_LABELS:
                objects.append(Detection(label, box, score))
        found.append(tuple(sorted(objects, key=lambda o: -(o.score or 0.0))))
    return found


def detector_of(bundle: FeatureBundle, name: str | None) -> str | None:
    """Return the name of the detector in a bundle of features; None = there is none.

    Raises:
        PartError: ``name`` is no detector of the bundle, or is None and there are several.
    """
    detectors = [key for key, value in bundle.items() if isinstance(value, ObjectFeatures)]
    if name is not None and name not in detectors:
        raise PartError(
            f"encoder {name!r} gives no objects; detectors: {', '.join(detectors) or 'none'}"
        )
    if name is None and len(detectors) > 1:
        raise PartError(
            f"the model has several detectors ({', '.join(detectors)}): say which one with "
            "perception_text.detector"
        )
    return name or (detectors[0] if detectors else None)


def to_corners(boxes_Q4: Tensor, size: tuple[int, int]) -> Tensor:
    """(cx, cy, w, h) in shares of the image to (x1, y1, x2, y2) in pixels."""
    centre, half = boxes_Q4[:, :2], boxes_Q4[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1) * torch.tensor([*size, *size]).to(
        centre
    )


def _within(box: Sequence[float], size: tuple[int, int]) -> Box | None:
    """The part of a box inside the image; None if there is none."""
    x1, y1 = max(0.0, box[0]), max(0.0, box[1])
    x2, y2 = min(float(size[0]), box[2]), min(float(size[1]), box[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
