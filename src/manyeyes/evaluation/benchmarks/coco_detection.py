"""Object detection on COCO's instances: AP and AR of COCO's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.readers.prompts import DETECTION_PROMPT
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.detection_grades import constant_detection, grade_detections
from manyeyes.evaluation.benchmarks.detections import (
    RESULT_FORMAT,
    detection_items,
    load_detections,
)
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file
from manyeyes.inference.questions import Item

PROMPT = DETECTION_PROMPT
FILES = ("annotations/instances_{split}.json", "instances_{split}.json")


def locate(source: Source) -> list[Path]:
    """The split's instances."""
    return [find_file(source, FILES, "COCO instances")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image."""
    (path,) = expect_files(paths, "COCO instances")
    return detection_items(open_document(path), prompt)


def grade(answers: Answers) -> Grade:
    """COCO's table in 0..100, AP also by category."""
    return grade_detections(answers, {"": lambda annotated: True})


BENCHMARK = Benchmark(
    name="coco-detection",
    description="object detection, AP and AR (COCO instances)",
    metric="AP",
    variants=("official",),
    prompt=PROMPT,
    answer="detections",
    files=FILES,
    result_format=RESULT_FORMAT,
    locate=locate,
    read=read,
    grade=grade,
    constant=constant_detection,
    load=load_detections,
)
