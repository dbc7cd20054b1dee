"""Every file of a world that manyeyes reads goes through the same readers as the real data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyeyes.data.files import check_file
from manyeyes.world.make import make_world

READ = {
    "annotations/captions_test.json": "coco_captions",
    "annotations/gqa_test_questions.json": "gqa",
    "annotations/instances_test.json": "coco_instances",
    "annotations/pope_adversarial_test.jsonl": "pope",
    "annotations/pope_popular_test.jsonl": "pope",
    "annotations/pope_random_test.jsonl": "pope",
    "annotations/refs_test.jsonl": "refcoco",
    "annotations/vqa_test_questions.json": "vqa",
    "llava/test.json": "llava",
    "llava/test_boxes.json": "llava",
    "llava/test_captions.json": "llava",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readable") / "world"
    return make_world(folder, images={"test": 8}, seed=2).folder


@pytest.mark.parametrize(("name", "format"), READ.items())
def test_read_without_a_broken_row(world: Path, name: str, format: str) -> None:
    report = check_file(world / name, world / "images")
    assert report.format == format
    assert report.broken == 0, report.errors
    assert report.samples >= 6
