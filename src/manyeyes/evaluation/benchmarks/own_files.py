"""Your own files as benchmarks: the questions of any file in a format that training reads.

Three benchmarks share a file, each with the questions that its metric can score: ``boxes`` those
that boxes answer, ``question_answer`` those with a short answer, ``conversations`` the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from manyeyes.data.own.folder import asked_of
from manyeyes.data.own.questions import OwnQuestion
from manyeyes.errors import DataError
from manyeyes.inference.questions import AnswerKind, Item

FILES = ("{split}.jsonl", "{split}.json", "{split}.parquet", "llava/{split}.json")

HOLDS = "rows in a format of training data"

METRIC = "metric"
"""Breakdown, and key of ``Item.meta``: by what an item is scored."""

_KINDS: Mapping[str, AnswerKind] = {
    "boxes": "boxes",
    "question_answer": "short",
    "conversations": "long",
}
_MOST_GROUPS = 12


def reader(benchmark: str) -> Callable[[Path, str], list[Item]]:
    """Return the function that reads the questions of one of the three benchmarks."""

    def read(path: Path, prompt: str) -> list[Item]:
        asked = asked_of(path)
        chosen = [question for question in asked.questions if question.benchmark == benchmark]
        if not chosen:
            others = sorted({question.benchmark for question in asked.questions})
            hint = f"; it has questions for {', '.join(others)}" if others else ""
            raise DataError(f"holds no questions for {benchmark!r}{hint}", file=str(path))
        keys = _group_keys(chosen)
        return [_item(question, keys, prompt) for question in chosen]

    return read


def _item(question: OwnQuestion, keys: Sequence[str], prompt: str) -> Item:
    said = {METRIC: question.metric, **question.keys}
    choice = question.metric == "choice"
    return Item(
        id=question.id,
        image=question.images[0],
        more_images=question.images[1:],
        before=question.before,
        prompt=prompt.format(question=question.turn.text),
        references=question.references,
        cluster=question.images[0],
        answer=_KINDS[question.benchmark],
        target=question.boxes[0] if question.boxes else None,
        boxes=question.turn.boxes,
        points=question.turn.points,
        groups={key: said[key] for key in keys if key in said},
        candidates=tuple(question.options.values()) if choice else (),
        meta={METRIC: question.metric, "options": question.options, "boxes": question.boxes},
    )


def _group_keys(questions: Sequence[OwnQuestion]) -> list[str]:
    """The keys whose values part the questions into groups: from 2 to 12, of two on average.

    The metric is one wherever there are several.
    """
    several = len({question.metric for question in questions}) > 1
    values: dict[str, set[str]] = {}
    for question in questions:
        for key, value in question.keys.items():
            values.setdefault(key, set()).add(value)
    most = min(_MOST_GROUPS, len(questions) // 2)
    keys = [key for key, found in values.items() if 2 <= len(found) <= most]
    return [METRIC] * several + keys
