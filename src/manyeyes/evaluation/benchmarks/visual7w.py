"""Visual7W pointing: which of four boxes answers the question? (yukezhu/visual7w-toolkit)

    official   the prediction is the id of the right box
    nearest    the prediction is a box, as text or in pixels; it stands for the candidate that it
               overlaps most, and is wrong if it overlaps none (ours). An id is taken as well.

Candidates are asked in an order that depends on the question's id alone, not on which is right.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, show, size_box
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import list_rows
from manyeyes.evaluation.benchmarks.grounding import box_answer, predicted_boxes
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import row_loader
from manyeyes.evaluation.contract import Prediction
from manyeyes.images.overlap import iou
from manyeyes.inference.questions import Item
from manyeyes.records import BOXES_PLACEHOLDER, Box

PROMPT = "{question} Candidates: {candidates} Answer with a box."
VARIANTS = ("official", "nearest")
FILES = (
    "dataset_v7w_pointing.json",
    "visual7w-pointing/dataset.json",
    "datasets/visual7w-pointing/dataset.json",
    "dataset.json",
)


def read(path: Path, prompt: str) -> list[Item]:
    """One item per question of every split; its reference is the id of the right box."""
    document = open_document(path)
    boxes = {str(row.identity("box_id")): _corners(row) for row in list_rows(document, "boxes")}
    items = []
    for image in list_rows(document, "images"):
        for index, value in enumerate(image.items("qa_pairs", "a list of questions")):
            items.append(_item(image, image.child("qa_pairs", index, value), boxes, prompt))
    return items


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100 over the candidates, by question type."""
    given = list(zip(answers.items, answers.predictions, strict=True))
    chosen = [_choice(item, prediction, answers) for item, prediction in given]
    right = [
        float(choice == item.references[0])
        for item, choice in zip(answers.items, chosen, strict=True)
    ]
    unread = sum(
        choice is None and prediction is not None
        for choice, (_, prediction) in zip(chosen, given, strict=True)
    )
    return Grade((mean_score("accuracy", right, answers.items),), right, unread)


def _choice(item: Item, prediction: Prediction | None, answers: Answers) -> str | None:
    """The id of the chosen candidate, "" for none of them; None for what cannot be read."""
    if isinstance(prediction, str) and prediction.strip() in item.choices:
        return prediction.strip()
    if answers.variant == "official":
        return None
    found = predicted_boxes(item, prediction, answers.box_style)
    if len(found) != 1:
        return None
    overlaps = [iou(found[0], candidate) for (candidate,) in item.boxes]
    best = max(overlaps)
    return item.choices[overlaps.index(best)] if best > 0 else ""


def _item(image: Row, row: Row, boxes: dict[str, Box], prompt: str) -> Item:
    answer = str(row.identity("answer"))
    others = [str(other) for other in row.items("multiple_choices", "a list of box ids")]
    identity = str(row.identity("qa_id"))
    choices = sorted({answer, *others}, key=lambda choice: _shuffled(identity, choice))
    if len(choices) != len(others) + 1:
        raise row.error("multiple_choices", f"expected other boxes than the answer, got {others}")
    for choice in choices:
        if choice not in boxes:
            raise row.error("answer", f"expected the ids of 'boxes', got {show(choice)}")
    candidates = " ".join([BOXES_PLACEHOLDER] * len(choices))
    name = image.get("filename", "the name of an image file")
    return Item(
        id=identity,
        image=image_path(image, "filename", name, SourceOptions(".")),
        prompt=prompt.format(question=row.text("question").strip(), candidates=candidates),
        references=(answer,),
        cluster=str(image.identity("image_id")),
        answer="boxes",
        target=boxes[answer],
        boxes=tuple((boxes[choice],) for choice in choices),
        groups={"question_type": row.text("type")} if "type" in row.value else {},
        choices=tuple(choices),
        split=image.text("split") if "split" in image.value else None,
    )


def _corners(row: Row) -> Box:
    """The box of ``{x, y, width, height}``."""
    sides = [row.get(key, "a number of pixels") for key in ("x", "y", "width", "height")]
    return size_box(replace(row, value={"x, y, width, height": sides}), "x, y, width, height")


def _shuffled(question: str, choice: str) -> str:
    return hashlib.sha256(f"{question}/{choice}".encode()).hexdigest()


def _best_place(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The place among the candidates that is right most often (by size), as the id that it has."""
    places = Counter(_by_size(item).index(item.references[0]) for item in counted)
    place = min(places, key=lambda place: (-places[place], place))
    return [_by_size(item)[min(place, len(item.choices) - 1)] for item in items]


def _by_size(item: Item) -> list[str]:
    """The candidates, the largest box first."""
    areas = {
        choice: (x2 - x1) * (y2 - y1)
        for choice, ((x1, y1, x2, y2),) in zip(item.choices, item.boxes, strict=True)
    }
    return sorted(item.choices, key=lambda choice: (-areas[choice], choice))


def _parse(row: Row) -> Prediction:
    """The official ``candidates: [{answer: box id}]``, or ``answer``: an id, or a box."""
    if "candidates" in row.value:
        candidates = row.items("candidates", "a list of {answer}")
        if len(candidates) != 1:
            raise row.error("candidates", f"expected one, the chosen box, got {show(candidates)}")
        row = row.child("candidates", 0, candidates[0])
    value = row.get("answer", "the id of a box, or a box")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return box_answer(row, "answer")


BENCHMARK = Benchmark(
    name="visual7w",
    description="which of four boxes answers the question (Visual7W pointing)",
    variants=VARIANTS,
    prompt=PROMPT,
    answer="boxes",
    files=FILES,
    result_format='[{"qa_id": ..., "candidates": [{"answer": BOX_ID}]}]',
    holds="Visual7W pointing questions",
    read_one=read,
    grade=grade,
    constant=_best_place,
    load=row_loader("qa_id", _parse),
)
