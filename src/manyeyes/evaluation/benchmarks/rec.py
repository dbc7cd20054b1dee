"""Referring expression comprehension over JSON lines with one box per expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyeyes.boxes import format_boxes, parse_boxes
from manyeyes.data.readers.prompts import REC_PROMPT
from manyeyes.evaluation.benchmarks.contract import (
    Answers,
    Benchmark,
    Grade,
    evenly,
)
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.contract import Item
from manyeyes.evaluation.scorers.rec import REC_VARIANTS, RecScore, score_boxes
from manyeyes.images import image_size
from manyeyes.records import Box

PROMPT = REC_PROMPT
FILES = ("annotations/refs_{split}.jsonl", "refs_{split}.jsonl")

_COUNTED = 2000
_CANDIDATES = 300


def locate(source: Source) -> list[Path]:
    """The split's file of expressions."""
    return [find_file(source, FILES, "referring expressions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per expression; image sizes are read when they are needed."""
    (path,) = expect_files(paths, "referring expressions")
    return [
        Item(
            id=sample.id,
            image=sample.images[0],
            prompt=prompt.format(expression=sample.meta["expression"]),
            references=(),
            cluster=str(sample.meta.get("image_id", sample.images[0])),
            answer="boxes",
            target=sample.meta["box"],
        )
        for sample in load_samples(path, "refcoco")
    ]


def grade(answers: Answers) -> Grade:
    """Accuracy at IoU 0.5 and mean IoU in 0..100; unparsable answers are wrong with IoU 0."""
    results = [
        _score(item, text or "", answers.variant, answers.box_style)
        for item, text in zip(answers.items, answers.texts, strict=True)
    ]
    right = [float(result.correct) for result in results]
    scores = (
        mean_score("accuracy", right, answers.items),
        mean_score("mean_iou", [result.iou for result in results], answers.items),
    )
    given = (text is not None for text in answers.texts)
    failures = sum(g and not r.parsed for g, r in zip(given, results, strict=True))
    return Grade(scores, right, failures)


def sized(item: Item) -> Item:
    """The item with the size of its image, read from the image's header if not known."""
    return item if item.size else replace(item, size=_size(item.image))


def _score(item: Item, text: str, variant: str, box_style: str) -> RecScore:
    width, height = sized(item).size or (0, 0)
    groups = parse_boxes(text, style=box_style, width=width, height=height)
    assert item.target is not None, "every REC item has a target box"
    return score_boxes(groups, item.target, variant)


def _constant_box(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """One box, in shares of the image, for all: of the counted ones that which is right most often.

    At most 2,000 boxes are counted and 300 tried, evenly spaced; ties go to the larger mean IoU.
    """
    usable = [item for item in evenly(counted, _COUNTED) if Path(item.image).is_file()] or items
    boxes = np.array([_shares(sized(item)) for item in usable])
    candidates = np.array(evenly(list(boxes), _CANDIDATES))
    overlaps = _pairwise_iou(candidates, boxes)
    merit = (overlaps >= 0.5).mean(axis=1) + 1e-6 * overlaps.mean(axis=1)
    x1, y1, x2, y2 = (float(share) for share in candidates[int(merit.argmax())])
    answers = []
    for item in items:
        width, height = sized(item).size or (0, 0)
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        answers.append(format_boxes([box], style=box_style, width=width, height=height))
    return answers


def _shares(item: Item) -> Box:
    width, height = item.size or (1, 1)
    x1, y1, x2, y2 = item.target or (0.0, 0.0, 0.0, 0.0)
    return x1 / width, y1 / height, x2 / width, y2 / height


def _pairwise_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[A, 4]``, ``[B, 4]`` -> ``[A, B]``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: NDArray[np.float64] = np.clip(high - low, 0.0, None).prod(axis=2)
    union = _areas(a)[:, None] + _areas(b)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1)
    return areas


@lru_cache(maxsize=100_000)
def _size(path: str) -> tuple[int, int]:
    return image_size(path)


BENCHMARK = Benchmark(
    name="rec",
    description="box for a referring expression, right at IoU 0.5 (RefCOCO-style JSON lines)",
    metric="accuracy",
    variants=tuple(REC_VARIANTS),
    prompt=PROMPT,
    answer="boxes",
    files=FILES,
    result_format='JSON lines {"question_id": ..., "answer": "[x1,y1,x2,y2]"}',
    locate=locate,
    read=read,
    grade=grade,
    constant=_constant_box,
    load=text_loader("question_id", "answer"),
)
