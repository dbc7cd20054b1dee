"""The world's detector: its targets, its start, its loss, and how it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from manyeyes.evaluation.scorers.coco_boxes import FoundBox
from manyeyes.world.pretrain.measuring import detector
from manyeyes.world.pretrain.measuring.detector import METRICS, detection_figures, detections
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.vision.detector import (
    GRID_SIDE,
    QUERIES,
    DetectorObjective,
    detection_targets,
)
from manyeyes.world.render import render, render_batch
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import SHAPES, Scene


def test_targets_are_centres_and_sizes_of_the_picture() -> None:
    wide = next(s for s in scene_batch("corner", 0, 100, 0) if s.width != s.height)
    (target,) = detection_targets([wide])
    assert [SHAPES[label] for label in target["class_labels"]] == [o.shape for o in wide.objects]
    for (x, y, w, h), item in zip(target["boxes"].tolist(), wide.objects, strict=True):
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        sides = (wide.width, wide.height) * 2
        assert [c * s for c, s in zip(corners, sides, strict=True)] == pytest.approx(item.box)


def test_references_start_on_a_grid_and_everything_learns() -> None:
    objective = DetectorObjective(0, images_per_step=8)
    network = objective.network
    head = network.model.decoder.ref_point_head
    points = head(network.model.query_position_embeddings.weight).sigmoid()
    lines = (torch.arange(GRID_SIDE) + 0.5) / GRID_SIDE
    expected = torch.cartesian_prod(lines, lines).flip(1)
    torch.testing.assert_close(points, expected, atol=1e-4, rtol=0)
    loss, figures = objective.loss(0)
    loss.backward()
    assert set(figures) == {"class", "box", "giou"}
    silent = {n for n, p in network.named_parameters() if p.grad is None}
    assert all("backbone" in name and ".layernorm" in name for name in silent), silent


def test_the_exported_folder_is_an_ordinary_detector(tmp_path: Path) -> None:
    DetectorObjective(0, images_per_step=2).export(tmp_path)
    model = AutoModelForObjectDetection.from_pretrained(tmp_path, local_files_only=True)
    processor = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert model.dtype == torch.bfloat16 and list(model.config.id2label.values()) == list(SHAPES)
    scenes = scene_batch("val", 0, 2, 0)
    pixels = processor(list(render_batch(scenes)), return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, picture_batch(scenes, "imagenet"), atol=1e-5)
    wide = Image.fromarray(render(sample_scene("corner", 0)).repeat(2, axis=1))
    assert processor(wide, return_tensors="pt")["pixel_values"].shape == (1, 3, 48, 48)
    out = model.float()(pixel_values=pixels)
    assert out.pred_boxes.shape == (2, QUERIES, 4)
    found = processor.post_process_object_detection(out, threshold=0.0, target_sizes=[(48, 48)] * 2)
    assert len(found) == 2


def test_every_query_and_class_is_a_detection_in_pixels(tmp_path: Path) -> None:
    DetectorObjective(0, images_per_step=2).export(tmp_path)
    scenes = [sample_scene("corner", index) for index in range(3)]
    found = detections(tmp_path, scenes)
    assert len(found) == 3 * QUERIES * len(SHAPES)
    assert all(0.0 <= box.score <= 1.0 for box in found)
    assert max(box.box[0] for box in found if box.image == 0) > 1.0


def test_true_boxes_score_one_and_shifted_ones_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def perfect(folder: Path, scenes: list[Scene]) -> list[FoundBox]:
        shift = 3.0 if scenes[0].split == "corner" else 0.0
        return [
            FoundBox(
                place,
                SHAPES.index(o.shape),
                (o.box[0] + shift, o.box[1], o.box[2] - o.box[0], o.box[3] - o.box[1]),
                0.9,
            )
            for place, scene in enumerate(scenes)
            for o in scene.objects
        ]

    monkeypatch.setattr(detector, "detections", perfect)
    figures = detection_figures(Path(), 0, number=30)
    assert figures["val"] == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert 0.0 < figures["corner"]["AP"] < 0.9
    kinds = {"clutter", "darkness", "fog", "noise", "odd_size"}
    assert set(figures) == {"val", "corner", "n", *(f"corner, {kind}" for kind in kinds)}
    assert figures["n"]["pictures per split"] == 30
