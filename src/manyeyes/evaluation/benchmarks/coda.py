"""CODA: detection of road corner cases (arXiv 2203.07724), with AR and AP of COCO's own code.

Annotations are in COCO's layout; each says whether it is a ``corner_case``. Beside the figures over
all objects stand those over corner cases (``AR100_corner``), where all other objects are ignored:
finding them is neither right nor wrong (ours). ``agnostic`` takes all categories as one, for what
has no name among the categories.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file
from manyeyes.inference.questions import Item

PROMPT = DETECTION_PROMPT
FILES = ("annotations.json", "corner_case.json", "annotations/coda_{split}.json")

_METRICS = ("AR100", "AR10", "AR1", "AP", "AP50", "AP75")
_ENDINGS = ("", "_corner")


def locate(source: Source) -> list[Path]:
    """The annotations of the folder."""
    return [find_file(source, FILES, "CODA annotations")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image; DataError if no annotation says whether it is a corner case."""
    (path,) = expect_files(paths, "CODA annotations")
    document = open_document(path)
    rows = (row for row in entries(document, "annotations") if isinstance(row, Row))
    if not any("corner_case" in row.value for row in rows):
        raise DataError("no annotation has a 'corner_case' flag", file=str(path))
    return detection_items(document, prompt)


def grade(answers: Answers) -> Grade:
    """AR@100, 10, 1 and AP in 0..100 over all objects and over corner cases."""
    parts = {"": lambda annotated: True, "_corner": lambda annotated: annotated.corner_case}
    found = grade_detections(answers, parts, agnostic=answers.variant == "agnostic")
    by_name = {score.metric: score for score in found.scores}
    wanted = (f"{metric}{ending}" for ending in _ENDINGS for metric in _METRICS)
    return replace(found, scores=tuple(by_name[name] for name in wanted if name in by_name))


BENCHMARK = Benchmark(
    name="coda",
    description="detection of road corner cases, AR and AP over all objects and corner cases",
    metric="AR100",
    variants=("official", "agnostic"),
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
