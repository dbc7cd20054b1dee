"""COCO's AP and AR for boxes, computed by the reference package.

``faster-coco-eval`` is used where it is installed, else ``pycocotools``; their figures are equal.
AP is the mean of precision at 101 recall points over categories and the IoU thresholds 0.50, 0.55,
..., 0.95; AR is the mean of the final recall. At most 100 detections an image and category count.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from manyeyes.errors import UsageError
from manyeyes.evaluation.scorers.coco_boxes import FoundBox, Shape, TrueBox

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's table, in its order. s, m, l: objects below 32², between, and above 96² pixels."""
ENGINES = ("faster_coco_eval", "pycocotools")
"""Packages that compute it, the preferred one first."""

_IGNORED_AREA = 2e10
"""Above every range of areas, which makes both packages ignore the object."""


@dataclass(frozen=True)
class CocoMetrics:
    """``values``: `METRICS` in 0..1, None where no object counts; AP of each category likewise."""

    values: Mapping[str, float | None]
    by_category: tuple[float | None, ...]


def default_engine() -> str:
    """The first of `ENGINES` that is installed; UsageError if none is."""
    for name in ENGINES:
        if find_spec(name) is not None:
            return name
    raise UsageError("AP needs pycocotools: pip install 'manyeyes[detection]'")


def coco_metrics(
    truth: Sequence[TrueBox],
    found: Sequence[FoundBox],
    shape: Shape,
    *,
    engine: str | None = None,
) -> CocoMetrics:
    """COCO's table. Equal scores keep their order (images first, then the order of ``found``).

    Raises:
        UsageError: the engine is not installed.
    """
    name = engine or default_engine()
    if name not in ENGINES or find_spec(name) is None:
        raise UsageError(f"{name} is not installed; known: {', '.join(ENGINES)}")
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = _evaluator(name, _dataset(truth, shape), _dataset(found, shape))
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = (float(value) for value in evaluator.stats[: len(METRICS)])
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # [threshold, recall, category]
    by_category = [_known(precision[:, :, place]) for place in range(shape.categories)]
    table = {
        metric: value if value > -1 else None for metric, value in zip(METRICS, values, strict=True)
    }
    return CocoMetrics(table, tuple(by_category))


def _dataset(boxes: Sequence[TrueBox | FoundBox], shape: Shape) -> dict[str, Any]:
    """A COCO file's content. Ids start at 1: pycocotools takes annotation 0 for "no match"."""
    annotations = []
    for number, box in enumerate(boxes, start=1):
        entry: dict[str, Any] = {"id": number, "image_id": box.image + 1, "iscrowd": 0}
        entry |= {"category_id": box.category + 1, "bbox": list(box.box)}
        if isinstance(box, TrueBox):
            area = _IGNORED_AREA if box.ignored else box.area
            entry |= {"iscrowd": int(box.crowd), "area": area}
        else:
            entry |= {"score": box.score, "area": box.box[2] * box.box[3]}
        annotations.append(entry)
    return {
        "images": [{"id": number + 1} for number in range(shape.images)],
        "categories": [{"id": number + 1} for number in range(shape.categories)],
        "annotations": annotations,
    }


def _evaluator(engine: str, truth: dict[str, Any], found: dict[str, Any]) -> Any:
    if engine == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    sides = []
    for content in (truth, found):
        side = COCO()
        side.dataset = content
        side.createIndex()
        sides.append(side)
    return COCOeval(*sides, iouType="bbox")


def _known(precision: NDArray[Any]) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None
