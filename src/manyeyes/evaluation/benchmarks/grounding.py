"""Boxes as answers: reading them, grading one box per item, and the best constant box.

A prediction is box text in the model's style, or numbers in pixels of the original image:
``[x1, y1, x2, y2]``, or a list of such boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from manyeyes.conversation.boxes import format_boxes, parse_boxes
from manyeyes.data.containers.pickles import SUFFIXES
from manyeyes.data.containers.rows import Row, show
from manyeyes.errors import DataError, ImageError, UsageError
from manyeyes.evaluation.benchmarks.contract import Answers, Grade, evenly
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import Loader, row_loader
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.rec import RecScore, score_boxes
from manyeyes.images.overlap import pairwise_iou
from manyeyes.images.reading import image_size
from manyeyes.inference.questions import Item
from manyeyes.records import Box, Sample

_COUNTED = 2000
_CANDIDATES = 300
_FARTHEST = 1e12
"""Numbers beyond it are neither coordinates nor areas."""


def with_instances(files: Sequence[str]) -> Callable[[Source], list[Path]]:
    """Find the first of ``files``, and the instances that stand beside a pickle."""

    def locate(source: Source) -> list[Path]:
        found = find_file(source, files, "referring expressions")
        return [found, found.with_name("instances.json")] if found.suffix == ".p" else [found]

    return locate


def load_expressions(paths: Sequence[Path]) -> list[Sample]:
    """Referring expressions of all splits of a pickle, or of one file of lines.

    A pickle may be followed by its instances; else they are looked for beside it.
    """
    if paths and paths[0].name.lower().endswith(SUFFIXES):
        if len(paths) > 2:
            raise UsageError(f"expected a pickle and its instances.json, got {len(paths)} files")
        instances = paths[1] if len(paths) == 2 else None
        return load_samples(paths[0], "refcoco_pickle", annotations=instances)
    (path,) = expect_files(paths, "referring expressions")
    return load_samples(path, "refcoco")


def expression_items(samples: Iterable[Sample], prompt: str) -> list[Item]:
    """One item per referring expression of the ``refcoco`` readers."""
    return [
        Item(
            id=sample.id,
            image=sample.images[0],
            prompt=prompt.format(expression=sample.meta["expression"]),
            references=(),
            cluster=str(sample.meta.get("image_id", sample.images[0])),
            answer="boxes",
            target=sample.meta["box"],
            size=sample.meta.get("size"),
            split=sample.meta.get("split"),
        )
        for sample in samples
    ]


def grade_boxes(answers: Answers) -> Grade:
    """Accuracy at IoU 0.5 and mean IoU in 0..100; unparsable answers are wrong with IoU 0.

    The ``shikra`` variant compares with the target as Shikra writes it: 3 decimals in the padded
    square.
    """
    pairs = list(zip(answers.items, answers.predictions, strict=True))
    results = [_score(item, p, answers.variant, answers.box_style) for item, p in pairs]
    right = [float(result.correct) for result in results]
    scores = (
        mean_score("accuracy", right, answers.items),
        mean_score("mean_iou", [result.iou for result in results], answers.items),
    )
    answered = [result for (_, p), result in zip(pairs, results, strict=True) if p is not None]
    return Grade(scores, right, sum(not result.parsed for result in answered))


def predicted_boxes(item: Item, prediction: Prediction | None, box_style: str) -> list[Box]:
    """All boxes of a prediction in pixels, in order; none where it holds nothing readable."""
    if prediction is None or (isinstance(prediction, str) and not prediction.strip()):
        return []
    if isinstance(prediction, str):
        width, height = size_of(item)
        groups = parse_boxes(prediction, style=box_style, width=width, height=height)
        return [box for group in groups for box in group]
    if not isinstance(prediction, Sequence):
        raise DataError(f"expected box text or a list of numbers as the prediction for {item.id!r}")
    members = prediction if any(isinstance(m, Sequence) for m in prediction) else [prediction]
    boxes = [_ordered(member) for member in members]
    return [box for box in boxes if box is not None] if None not in boxes else []


def size_of(item: Item) -> tuple[int, int]:
    """(width, height) of the item's image: as its file says, else from the image's header.

    Raises:
        DataError: neither can be had.
    """
    if item.size is not None:
        return item.size
    try:
        return _header_size(item.image)
    except ImageError as error:
        message = (
            f"box text needs the size of image {item.image!r}: the annotations do not say it, and "
            f"the image {error}; name a folder of images"
        )
        raise DataError(message) from error


def sized(item: Item) -> Item:
    """The item with the size of its image."""
    return item if item.size else replace(item, size=size_of(item))


def box_loader(id_key: str) -> Loader:
    """A loader of ``{id_key, "answer"}`` rows, or ``{id: answer}``, with boxes as text or numbers.

    Lists that are not four numbers pass: they are wrong answers. What is no number is a DataError.
    """

    def parse(row: Row) -> Prediction:
        return box_answer(row, "answer")

    return row_loader(id_key, parse, keyed=box_answer)


def box_answer(row: Row, key: str) -> Prediction:
    """Box text or a list of numbers under a key; DataError for anything else."""
    value = row.get(key, "box text, or [x1, y1, x2, y2] in pixels")
    if isinstance(value, str) or _holds_numbers(value, depth=2):
        return value
    message = f"expected box text, or [x1, y1, x2, y2] in pixels, finite numbers; got {show(value)}"
    raise row.error(key, message)


def constant_box(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """One box, in shares of the image, for all: of the counted ones that which is right most often.

    At most 2,000 boxes are counted and 300 tried, evenly spaced; ties go to the larger mean IoU.
    """
    chosen = evenly(counted, _COUNTED)
    usable = [item for item in chosen if item.size or Path(item.image).is_file()] or items
    boxes = np.array([_shares(sized(item)) for item in usable])
    candidates = np.array(evenly(list(boxes), _CANDIDATES))
    overlaps = pairwise_iou(candidates, boxes)
    merit = (overlaps >= 0.5).mean(axis=1) + 1e-6 * overlaps.mean(axis=1)
    x1, y1, x2, y2 = (float(share) for share in candidates[int(merit.argmax())])
    answers = []
    for item in items:
        width, height = size_of(item)
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        answers.append(format_boxes([box], style=box_style, width=width, height=height))
    return answers


def is_number(value: Any) -> bool:
    """A finite number that can be a coordinate, an area or a score; no NaN, no true or false."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _FARTHEST


def _score(item: Item, prediction: Prediction | None, variant: str, box_style: str) -> RecScore:
    assert item.target is not None, "every item of a box benchmark has a target"
    boxes = predicted_boxes(item, prediction, box_style)
    target = _as_shikra_writes(item) if variant == "shikra" else item.target
    return score_boxes(boxes, target, variant)


def _as_shikra_writes(item: Item) -> Box:
    assert item.target is not None
    width, height = size_of(item)
    text = format_boxes([item.target], style="shikra", width=width, height=height)
    ((box,),) = parse_boxes(text, style="shikra", width=width, height=height)
    return box


def _ordered(member: Any) -> Box | None:
    """Four numbers as a box; None if they are not four, or the corners are in the wrong order."""
    if not isinstance(member, Sequence) or len(member) != 4 or not all(map(is_number, member)):
        return None
    x1, y1, x2, y2 = (float(number) for number in member)
    return (x1, y1, x2, y2) if x1 <= x2 and y1 <= y2 else None


def _holds_numbers(value: Any, depth: int) -> bool:
    """A list of finite numbers, or of such lists."""
    if not isinstance(value, list):
        return False
    if depth > 1 and any(isinstance(member, list) for member in value):
        return all(_holds_numbers(member, depth - 1) for member in value)
    return all(is_number(member) for member in value)


def _shares(item: Item) -> Box:
    width, height = item.size or (1, 1)
    x1, y1, x2, y2 = item.target or (0.0, 0.0, 0.0, 0.0)
    return x1 / width, y1 / height, x2 / width, y2 / height


@lru_cache(maxsize=100_000)
def _header_size(path: str) -> tuple[int, int]:
    return image_size(path)
