"""A detector with noise in its heads finds more in pictures that it was not refined on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import ConditionalDetrForObjectDetection

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.checkpoints import hub
from manyeyes.evaluation.scorers.coco_boxes import FoundBox, Shape, TrueBox
from manyeyes.evaluation.scorers.coco_metrics import coco_metrics
from manyeyes.records import Sample, Turn
from manyeyes.world.render import render
from manyeyes.world.sample import sample_scene

pytestmark = pytest.mark.long

NOISE = 2.0
"""Of each tensor of the heads, in its own standard deviations."""
STEPS, BATCH, SEEN, HELD_OUT = 60, 32, 96, 64

Rows = dict[str, Tensor]


def save_noised(folder: Path) -> Path:
    """Save the world's detector with noise in the heads of class and box."""
    detector: Any = hub.load_pretrained(ConditionalDetrForObjectDetection, "world:detector").float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for head in (detector.bbox_predictor.layers[-1], detector.class_labels_classifier):
            for parameter in head.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(NOISE * parameter.std() * noise)
    detector.save_pretrained(folder)
    return folder


def build(parts: Path, detector: Path) -> tuple[Any, ManyEyesProcessor]:
    """Return a model in which only the fusion learns."""
    block = {
        **tiny.model_block(parts),
        "encoders": [
            {"name": "clip", "family": "clip", "checkpoint": "world:clip", "levels": [-1],
             "final_norm": True, "keep_prefix": True},
            {"name": "detector", "family": "conditional_detr", "checkpoint": str(detector)},
        ],
        "fusion": {"name": "shared_queries", "queries": 8, "width": 32, "heads": 4,
                   "visual_depth": 1, "perception_depth": 1, "fusion_depth": 1,
                   "box_embed": True, "refine": True},
        "bridge": {"name": "adapter_prompts"},
    }  # fmt: skip
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fusion."))
    return model, processor


@torch.no_grad()
def scenes(model: Any, processor: ManyEyesProcessor, split: str, number: int) -> Rows:
    """Return what the frozen encoders give of the first scenes of a split, and what is there."""
    turns = (Turn("user", "<image>objects?"), Turn("assistant", "some"))
    encoded = []
    for index in range(number):
        scene = sample_scene(split, index, 0)
        meta = {
            "labels": tuple(item.shape for item in scene.objects),
            "boxes": tuple(tuple(map(float, item.box)) for item in scene.objects),
            "crowd": (False,) * len(scene.objects),
        }
        sample = Sample(f"{split}{index}", ("x",), turns, "detection", meta)
        encoded.append(processor.encode(sample, [Image.fromarray(render(scene))]))
    rows = processor.collate(encoded)
    features = model.encode(**{k: v for k, v in rows.items() if k.startswith("pixel")})
    stored = {k: v for k, v in rows.items() if not k.startswith("pixel")}
    packed = {f"features_{n}": encoder.pack(features[n]) for n, encoder in model.encoders.items()}
    return {**stored, **packed}


@torch.no_grad()
def average_precision(model: Any, rows: Rows, *, refined: bool) -> float:
    """COCO's AP of every class of every object, without a threshold."""
    pair = model.detect(**{k: v for k, v in rows.items() if k.startswith("features")})
    objects, truth, found = pair[refined], [], []
    for image, count in enumerate(rows["target_counts"].tolist()):
        for number in range(count):
            box = corner(rows["target_boxes"][image, number])
            category = int(rows["target_classes"][image, number])
            truth.append(TrueBox(image, category, box, box[2] * box[3]))
        for place, scores in zip(objects.boxes[image], objects.scores[image], strict=True):
            box = corner(place)
            found += [FoundBox(image, c, box, score) for c, score in enumerate(scores.tolist())]
    shape = Shape(len(rows["target_counts"]), objects.scores.shape[-1])
    value = coco_metrics(truth, found, shape).values["AP"]
    assert value is not None
    return value


def corner(box: Tensor) -> tuple[float, float, float, float]:
    x, y, w, h = (100 * box).tolist()
    return x - w / 2, y - h / 2, w, h


def refine(model: Any, rows: Rows) -> None:
    """Train the fusion, refiner included, on the detection loss alone."""
    fusion = model.fusion
    with torch.no_grad():
        fusion.refiner.gate.fill_(0.1)
    others = [p for name, p in fusion.named_parameters() if name != "refiner.gate"]
    rates = [{"params": [fusion.refiner.gate], "lr": 0.02}, {"params": others, "lr": 5e-3}]
    optimizer = torch.optim.AdamW(rates, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [0.02, 5e-3], total_steps=STEPS, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(STEPS):
        chosen = torch.randperm(SEEN, generator=generator)[:BATCH]
        batch = {name: tensor[chosen] for name, tensor in rows.items()}
        optimizer.zero_grad()
        model(**batch, wanted=["detection_loss"]).trace["detection_loss"].backward()
        nn.utils.clip_grad_norm_(fusion.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def test_mr_mllm_check_25_refinement_raises_ap_and_a_zero_gate_keeps_it(
    parts: Path, tmp_path: Path
) -> None:
    """Refined on scenes of ``train``, scored on scenes of ``val``; each picture is one scene."""
    torch.manual_seed(0)
    model, processor = build(parts, save_noised(tmp_path / "noised"))
    seen = scenes(model, processor, "train", SEEN)
    held_out = scenes(model, processor, "val", HELD_OUT)
    for rows in (seen, held_out):
        assert len(torch.unique(rows["features_clip"], dim=0)) == len(rows["features_clip"])
    before = average_precision(model, held_out, refined=False)
    assert average_precision(model, held_out, refined=True) == before  # the gate starts at 0
    refine(model, seen)
    after = average_precision(model, held_out, refined=True)
    assert average_precision(model, held_out, refined=False) == before
    assert after > before + 0.08, (before, after)
    with torch.no_grad():
        model.fusion.refiner.gate.zero_()
    assert average_precision(model, held_out, refined=True) == before
