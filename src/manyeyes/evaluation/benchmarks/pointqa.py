"""PointQA in Shikra's JSON lines: a question about a box or a point, answered in a word.

Three files, of which those that are there are scored together and each alone (breakdown ``set``):
Local, LookTwice with its general question, and Visual7W with four candidates and a box or a point
as the answer. Shikra's versions b and p are asked by ``<boxes>`` or ``<points>`` in the prompt.

    official   the text between "The answer is" and a full stop, equal letter by letter (Shikra).
               For boxes and points it is all that stands before the end: as published, the
               expression stops inside the first number, so that nearly every box would be right.
    plain      as above where the answer has that sentence, else all of it without a final stop,
               for models that answer without the sentence (ours)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from manyeyes.conversation.boxes import format_boxes, format_points
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import find_sets, load_samples, placed
from manyeyes.evaluation.benchmarks.grounding import size_of
from manyeyes.evaluation.benchmarks.measures import mean_score, most_frequent
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.inference.questions import Item
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, POINTS_PLACEHOLDER, Sample

PROMPT = f"{{question}} {BOXES_PLACEHOLDER}"
VARIANTS = ("official", "plain")
_PATTERNS = {
    "local": placed("pointQA_local_{split}.jsonl"),
    "twice": placed("pointQA_twice_{split}.jsonl"),
    "v7w": placed("v7w_pointing_{split}.jsonl"),
}
FILES = tuple(pattern for patterns in _PATTERNS.values() for pattern in patterns)

_WORD = re.compile(r"The answer is (.+?)\.")
_PLACE = re.compile(r"The answer is\s*(\[[^\]]*\])\s*\.?\s*$")


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per line of every file; the prompt says whether it is asked by box or by point."""
    by_point = POINTS_PLACEHOLDER in prompt
    template = prompt.replace(POINTS_PLACEHOLDER if by_point else BOXES_PLACEHOLDER, "").strip()
    version = "-point" if by_point else "-box"
    return [
        _item(sample, sample.id.removesuffix(version), _set_of(path), template)
        for path in paths
        for sample in load_samples(path, "shikra")
        if sample.id.endswith(version)
    ]


def grade(answers: Answers) -> Grade:
    """Exact match in 0..100, by set."""
    right, unread = [], 0
    for item, text in zip(answers.items, answers.texts, strict=True):
        said = None if text is None else _said(item, text, answers.variant)
        unread += said is None and text is not None
        expected = () if said is None else _expected(item, answers.box_style)
        right.append(float(said in expected))
    return Grade((mean_score("accuracy", right, answers.items),), right, unread)


def _item(sample: Sample, identity: str, name: str, template: str) -> Item:
    question = sample.turns[0]
    asked = question.text.removeprefix(IMAGE_PLACEHOLDER).strip()
    return Item(
        id=identity,
        image=sample.images[0],
        prompt=template.format(question=asked),
        references=(sample.meta["answer"],) if "answer" in sample.meta else (),
        cluster=sample.images[0],
        answer="short" if "answer" in sample.meta else "boxes",
        target=sample.meta["box"],
        boxes=question.boxes,
        points=question.points,
        groups={"set": name},
        meta={"point": sample.meta["point"]},
    )


def _set_of(path: Path) -> str:
    return next((name for name in _PATTERNS if name in path.name), path.stem)


def _said(item: Item, text: str, variant: str) -> str | None:
    """What an answer says; None if it does not say it as the variant wants it."""
    sentence = (_WORD if item.references else _PLACE).findall(text.strip())
    if len(sentence) == 1:
        said = sentence[0].strip()
    elif variant == "plain" and text.strip():
        said = text.strip().removesuffix(".").strip()
    else:
        return None
    return said if item.references else "".join(said.split())


def _expected(item: Item, box_style: str) -> tuple[str, ...]:
    """The right answer as Shikra reads it, or the box and the point that are right as text."""
    if item.references:
        written = f"The answer is {item.references[0]} ."
        return tuple(answer.strip() for answer in _WORD.findall(written))
    width, height = size_of(item)
    assert item.target is not None, "every PointQA item has a box"
    return (
        format_boxes([item.target], style=box_style, width=width, height=height),
        format_points([item.meta["point"]], style=box_style, width=width, height=height),
    )


def _majority(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The most frequent answer of the item's set; where boxes answer, the first candidate."""
    counts: dict[str, Counter[str]] = {}
    for item in counted:
        counts.setdefault(item.groups["set"], Counter()).update(item.references)
    answers = []
    for item in items:
        known = counts.get(item.groups["set"]) or Counter(item.references)
        if item.references:
            said = most_frequent(known)
        else:
            width, height = size_of(item)
            said = format_boxes(item.boxes[0], style=box_style, width=width, height=height)
        answers.append(f"The answer is {said} .")
    return answers


BENCHMARK = Benchmark(
    name="pointqa",
    description="questions about a box or a point (PointQA Local, LookTwice; Shikra's Visual7W)",
    variants=VARIANTS,
    prompt=PROMPT,
    files=FILES,
    result_format='JSON lines {"id": ..., "answer": "The answer is ... ."}',
    locate=partial(find_sets, sets=_PATTERNS, what="PointQA questions"),
    read=read,
    grade=grade,
    constant=_majority,
    load=text_loader("id", "answer"),
)
