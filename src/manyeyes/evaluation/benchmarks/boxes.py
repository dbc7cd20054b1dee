"""Boxes of your own files: one or several boxes answer a question.

Boxes of an answer are matched with the true ones, the pair with the largest IoU first; pairs at
IoU 0.5 or more are hits. The item's score is F1 = 2 · hits / (boxes said + true boxes), which for
one box against one is accuracy at IoU 0.5 (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.grounding import box_loader, constant_box, predicted_boxes
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.own_files import FILES, HOLDS, reader
from manyeyes.evaluation.scorers.rec import IOU_THRESHOLD
from manyeyes.images.overlap import iou
from manyeyes.inference.questions import Item
from manyeyes.records import Box


def grade(answers: Answers) -> Grade:
    """Box F1 at IoU 0.5, answers that are fully right, and mean IoU, in 0..100."""
    pairs = list(zip(answers.items, answers.predictions, strict=True))
    said = [predicted_boxes(item, p, answers.box_style) for item, p in pairs]
    matched = [
        matched_ious(boxes, _truth(item)) for boxes, (item, _) in zip(said, pairs, strict=True)
    ]
    sizes = [(len(boxes), len(_truth(item))) for boxes, (item, _) in zip(said, pairs, strict=True)]
    hits = [sum(overlap >= IOU_THRESHOLD for overlap in overlaps) for overlaps in matched]
    f1 = [2 * hit / sum(size) for hit, size in zip(hits, sizes, strict=True)]
    overlaps = [sum(ious) / max(size) for ious, size in zip(matched, sizes, strict=True)]
    scores = (
        mean_score("box_f1", f1, answers.items),
        mean_score("accuracy", [float(value == 1.0) for value in f1], answers.items),
        mean_score("mean_iou", overlaps, answers.items),
    )
    answered = [boxes for boxes, (_, p) in zip(said, pairs, strict=True) if p is not None]
    return Grade(scores, f1, sum(not boxes for boxes in answered))


def matched_ious(said: Sequence[Box], truth: Sequence[Box]) -> list[float]:
    """IoU of every matched pair, largest first; each box is matched once, overlapping ones only."""
    found: list[float] = []
    overlaps = [(-iou(a, b), i, j) for (i, a), (j, b) in product(enumerate(said), enumerate(truth))]
    used_said, used_truth = set[int](), set[int]()
    for negative, i, j in sorted(overlaps):
        if negative < 0 and i not in used_said and j not in used_truth:
            used_said.add(i)
            used_truth.add(j)
            found.append(-negative)
    return found


def _truth(item: Item) -> tuple[Box, ...]:
    boxes: tuple[Box, ...] = item.meta["boxes"]
    return boxes


BENCHMARK = Benchmark(
    name="boxes",
    description="boxes of your own files: F1 at IoU 0.5, one or several boxes an answer",
    metric="box_f1",
    answer="boxes",
    files=FILES,
    result_format='JSON lines {"id": ..., "answer": "[x1,y1,x2,y2]"}',
    holds=HOLDS,
    read_one=reader("boxes"),
    drawn=True,
    grade=grade,
    constant=constant_box,
    load=box_loader("id"),
)
