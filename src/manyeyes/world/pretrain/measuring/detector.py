"""What the trained detector is measured on: COCO AP on ordinary and on corner-case pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from manyeyes.evaluation.scorers.coco_boxes import FoundBox, Shape, TrueBox
from manyeyes.evaluation.scorers.coco_metrics import coco_metrics
from manyeyes.world.emit.scenes import xywh
from manyeyes.world.pretrain.loop import batched
from manyeyes.world.render import render
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import CORRUPTIONS, SHAPES, Scene

MEASURED_SCENES = 1000
"""Pictures per split."""

METRICS = ("AP", "AP50", "AP75", "AR10")
_CHUNK = 100

Figures = dict[str, float]


def detection_figures(folder: Path, seed: int, number: int = MEASURED_SCENES) -> dict[str, Figures]:
    """Return COCO's figures in 0..1 of the part on ``number`` pictures of ``val`` and ``corner``.

    Below ``corner`` stands each of its corruptions alone. Every class of every query counts as a
    detection with its score, so no threshold enters.
    """
    figures: dict[str, Figures] = {}
    objects = 0
    for split in ("val", "corner"):
        scenes = [sample_scene(split, index, seed) for index in range(number)]
        found = detections(folder, scenes)
        objects += sum(len(scene.objects) for scene in scenes)
        figures[split] = _score(scenes, found, range(number))
        for corruption in CORRUPTIONS[1:] if split == "corner" else ():
            chosen = [i for i, scene in enumerate(scenes) if scene.corruption == corruption]
            if chosen:
                figures[f"corner, {corruption}"] = _score(scenes, found, chosen)
    figures["n"] = {"pictures per split": float(number), "objects": float(objects)}
    return figures


@torch.no_grad()
def detections(folder: Path, scenes: Sequence[Scene]) -> list[FoundBox]:
    """Return what the detector in ``folder`` finds, by its own image processor, in pixels."""
    options: dict[str, Any] = {"local_files_only": True}
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, **options)
    model = AutoModelForObjectDetection.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, **options
    )
    model.eval()
    found = []
    for places in batched(len(scenes), _CHUNK):
        pictures = [Image.fromarray(render(scenes[place])) for place in places]
        out = model(pixel_values=processor(pictures, return_tensors="pt")["pixel_values"])
        for place, logits, boxes in zip(places, out.logits, out.pred_boxes, strict=True):
            found += list(_boxes(place, scenes[place], logits.sigmoid(), boxes))
    return found


def _boxes(place: int, scene: Scene, scores: Tensor, boxes: Tensor) -> Iterator[FoundBox]:
    centers, sizes = (boxes * torch.tensor([scene.width, scene.height] * 2)).split(2, dim=1)
    corners = torch.cat([centers - sizes / 2, sizes], dim=1).tolist()
    for box, row in zip(corners, scores.tolist(), strict=True):
        x, y, w, h = box
        for category, score in enumerate(row):
            yield FoundBox(place, category, (x, y, w, h), score)


def _score(scenes: Sequence[Scene], found: Sequence[FoundBox], chosen: Sequence[int]) -> Figures:
    """COCO's figures over the chosen pictures."""
    rank = {place: number for number, place in enumerate(chosen)}
    truth = [
        TrueBox(number, SHAPES.index(item.shape), tuple(map(float, xywh(item))), float(item.area))  # type: ignore[arg-type]
        for place, number in rank.items()
        for item in scenes[place].objects
    ]
    kept = [
        FoundBox(rank[box.image], box.category, box.box, box.score)
        for box in found
        if box.image in rank
    ]
    values = coco_metrics(truth, kept, Shape(len(rank), len(SHAPES))).values
    return {name: value for name in METRICS if (value := values[name]) is not None}
