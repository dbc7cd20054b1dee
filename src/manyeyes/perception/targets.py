"""What an annotated image holds, as a detector's targets: class numbers and boxes.

Targets exist for samples of ``TARGET_TASKS`` (COCO instances and what reads like them), whose
``meta`` has ``labels``, ``boxes`` and ``crowd``. Crowd regions are left out. Other samples' images
are unknown, not empty.

Shapes: I images, G the most objects of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from manyeyes.errors import DataError, nearest
from manyeyes.records import Box, Sample

TARGETS = COUNTS, CLASSES, BOXES = ("target_counts", "target_classes", "target_boxes")
"""Keys in a row and in a batch: ``[I]``, ``[I, G]`` and ``[I, G, 4]`` (cx, cy, w, h in 0..1)."""

UNKNOWN = -1
TARGET_TASKS = ("detection", "refinement")


def target_row(
    sample: Sample, sizes: Sequence[tuple[int, int]], labels: Sequence[str] | None
) -> dict[str, Tensor]:
    """Return one sample's targets; ``sizes``: (width, height) of its images.

    Nothing where no detector learns from them (``labels`` None).

    Raises:
        DataError: a class that the detector does not have, or annotations that do not fit together.
    """
    if labels is None:
        return {}
    if sample.task not in TARGET_TASKS or not {"labels", "boxes"} <= sample.meta.keys():
        return _row([UNKNOWN] * len(sizes), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    names, boxes = sample.meta["labels"], sample.meta["boxes"]
    crowd = sample.meta.get("crowd") or (False,) * len(names)
    if len(sizes) != 1 or not len(names) == len(boxes) == len(crowd):
        raise DataError(
            f"sample {sample.id!r}: detection needs one image with as many labels as boxes, got "
            f"{len(sizes)} image(s), {len(names)} labels and {len(boxes)} boxes"
        )
    kept = [index for index, region in enumerate(crowd) if not region]
    classes = [_number(names[index], labels, sample.id) for index in kept]
    centers = [_center(boxes[index], sizes[0]) for index in kept]
    found = torch.tensor(centers, dtype=torch.float32).reshape(-1, 4)
    return _row([len(kept)], torch.tensor(classes, dtype=torch.long), found)


def target_batch(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Pad the targets of all rows to the most objects of an image; empty where rows have none."""
    if not rows or COUNTS not in rows[0]:
        return {}
    most = max(row[CLASSES].shape[1] for row in rows)
    return {
        COUNTS: torch.cat([row[COUNTS] for row in rows]),
        CLASSES: torch.cat([_padded(row[CLASSES], most) for row in rows]),
        BOXES: torch.cat([_padded(row[BOXES], most) for row in rows]),
    }


def _row(counts: list[int], classes: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    images = len(counts)
    return {
        COUNTS: torch.tensor(counts, dtype=torch.long),
        CLASSES: classes.expand(images, -1),
        BOXES: boxes.expand(images, -1, -1),
    }


def _padded(values: Tensor, most: int) -> Tensor:
    """Pad ``[I, G]`` or ``[I, G, 4]`` with zeros along G."""
    missing = values.new_zeros(len(values), most - values.shape[1], *values.shape[2:])
    return torch.cat([values, missing], dim=1)


def _number(name: str, labels: Sequence[str], sample: str) -> int:
    if name not in labels:
        raise DataError(
            f"sample {sample!r}: the detector has no class {name!r}{nearest(name, labels)}; it "
            f"has {', '.join(labels)}"
        )
    return list(labels).index(name)


def _center(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Corners in pixels to cx, cy, w, h in 0..1, cut at the image's edges."""
    width, height = size
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (box[0], box[2]))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (box[1], box[3]))
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
