"""Object detection: COCO's instances, and the road corner cases of CODA (arXiv 2203.07724).

AP and AR of COCO's own code. CODA's annotations are in COCO's layout; each says whether it is a
``corner_case``. Beside the figures over all objects stand those over corner cases
(``AR100_corner``), where all other objects are ignored: finding them is neither right nor wrong
(ours). ``agnostic`` takes all categories as one, for what has no name among the categories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row
from manyeyes.data.readers.coco import entries
from manyeyes.data.readers.prompts import DETECTION_PROMPT
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.detection_grades import constant_detection, grade_detections
from manyeyes.evaluation.benchmarks.detections import (
    RESULT_FORMAT,
    detection_items,
    load_detections,
)
from manyeyes.inference.questions import Item

_METRICS = ("AR100", "AR10", "AR1", "AP", "AP50", "AP75")
_ENDINGS = ("", "_corner")


def _read_coco(path: Path, prompt: str) -> list[Item]:
    """One item per image."""
    return detection_items(open_document(path), prompt)


def _read_coda(path: Path, prompt: str) -> list[Item]:
    """One item per image; DataError if no annotation says whether it is a corner case."""
    document = open_document(path)
    rows = (row for row in entries(document, "annotations") if isinstance(row, Row))
    if not any("corner_case" in row.value for row in rows):
        raise DataError("no annotation has a 'corner_case' flag", file=str(path))
    return detection_items(document, prompt)


def _grade_coco(answers: Answers) -> Grade:
    """COCO's table in 0..100, AP also by category."""
    return grade_detections(answers, {"": lambda annotated: True})


def _grade_coda(answers: Answers) -> Grade:
    """AR@100, 10, 1 and AP in 0..100 over all objects and over corner cases."""
    parts = {"": lambda annotated: True, "_corner": lambda annotated: annotated.corner_case}
    found = grade_detections(answers, parts, agnostic=answers.variant == "agnostic")
    by_name = {score.metric: score for score in found.scores}
    wanted = (f"{metric}{ending}" for ending in _ENDINGS for metric in _METRICS)
    return replace(found, scores=tuple(by_name[name] for name in wanted if name in by_name))


def _benchmark(
    name: str,
    description: str,
    *,
    metric: str,
    files: tuple[str, ...],
    holds: str,
    read_one: Callable[[Path, str], list[Item]],
    grade: Callable[[Answers], Grade],
    variants: tuple[str, ...] = ("official",),
) -> Benchmark:
    return Benchmark(
        name=name,
        description=description,
        metric=metric,
        variants=variants,
        prompt=DETECTION_PROMPT,
        answer="detections",
        files=files,
        holds=holds,
        result_format=RESULT_FORMAT,
        read_one=read_one,
        grade=grade,
        constant=constant_detection,
        load=load_detections,
    )


DETECTION_SETS: Mapping[str, Benchmark] = {
    "coco-detection": _benchmark(
        "coco-detection",
        "object detection, AP and AR (COCO instances)",
        metric="AP",
        files=("annotations/instances_{split}.json", "instances_{split}.json"),
        holds="COCO instances",
        read_one=_read_coco,
        grade=_grade_coco,
    ),
    "coda": _benchmark(
        "coda",
        "detection of road corner cases, AR and AP over all objects and corner cases",
        metric="AR100",
        variants=("official", "agnostic"),
        files=("annotations.json", "corner_case.json", "annotations/coda_{split}.json"),
        holds="CODA annotations",
        read_one=_read_coda,
        grade=_grade_coda,
    ),
}
