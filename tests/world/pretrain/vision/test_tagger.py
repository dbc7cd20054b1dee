"""The tagger: its words, its labels, its figures, and that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from manyeyes.world.language.tags import TAGS, tags_of
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.vision.tagger import (
    TaggerObjective,
    average_precision,
    tag_labels,
    tagging_figures,
)
from manyeyes.world.render import render_batch
from manyeyes.world.sample import sample_scene


def test_tags_are_the_words_of_captions_in_order() -> None:
    scene = sample_scene("train", 0, count=3)
    tags = tags_of(scene)
    assert list(tags) == [tag for tag in TAGS if tag in tags] and "three" in tags
    for item in scene.objects:
        assert {item.color, item.shape, item.size} <= set(tags)
        assert item.texture not in tags and item.mark not in tags
    assert len(set(TAGS)) == len(TAGS) == 19
    labels = tag_labels([scene, scene])
    assert [TAGS[i] for i in labels[1].nonzero().flatten()] == list(tags)


def test_average_precision_against_the_definition() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    goal = torch.tensor([True, False, True, False])
    assert average_precision(scores, goal) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, ~goal) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision(scores, torch.zeros(4, dtype=torch.bool)) == 1.0


def test_the_part_is_an_ordinary_classifier(tmp_path: Path) -> None:
    objective = TaggerObjective(0, images_per_step=4)
    objective.export(tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert tuple(model.config.id2label.values()) == TAGS
    assert model.config.problem_type == "multi_label_classification"
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    scenes = scene_batch("val", 0, 2, 0)
    pixels = processor(list(render_batch(scenes)), return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, picture_batch(scenes, "imagenet"), atol=1e-5)
    figures = tagging_figures(tmp_path, 0, "corner", number=12)
    assert set(figures) == {"all", "n", *TAGS} and figures["n"] == {"pictures": 12.0}
    small = figures["small"]
    truth = tag_labels([sample_scene("corner", index) for index in range(12)])
    assert small["share"] == pytest.approx(float(truth[:, TAGS.index("small")].mean()))
    assert 0.0 <= figures["all"]["average precision"] <= 1.0


def test_learns() -> None:
    objective = TaggerObjective(0, images_per_step=16)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss, _ = objective.loss(0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
