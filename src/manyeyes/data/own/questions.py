"""Samples of any training format as questions with answers to score: one for each answer.

A row may say more than training reads:

    references: [text, ...]          accepted answers beside the one that is trained on
                                     (of a row with several answers: one list for each)
    metric: NAME                     how they are scored, see ``metrics``
    options: [text, ...]             what may be chosen, where the question does not list it
    any other key                    a group, where it has a few values
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from manyeyes.data.own.metrics import METRICS, listed_options, metric_for
from manyeyes.errors import DataError, nearest
from manyeyes.records import (
    BOXES_PLACEHOLDER,
    IMAGE_PLACEHOLDER,
    POINTS_PLACEHOLDER,
    Box,
    Sample,
    Turn,
)

ROW = "row"
"""Key of ``Sample.meta`` with the whole row, where it was kept (``SourceOptions.keep_rows``)."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class OwnQuestion:
    """One question of own data.

    ``turn`` asks it after the turns ``before``; ``images`` are all of the row. ``references`` are
    the accepted texts, ``boxes`` the true boxes in pixels of the first image where boxes answer.
    ``options``: letter -> text. ``keys``: further keys of the row with one value each.
    """

    id: str
    images: tuple[str, ...]
    before: tuple[Turn, ...]
    turn: Turn
    references: tuple[str, ...]
    boxes: tuple[Box, ...]
    metric: str
    options: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def benchmark(self) -> str:
        """The benchmark that asks it."""
        return METRICS[self.metric]


@dataclass(frozen=True)
class OwnQuestions:
    """The questions of a file, and why some answers give none: reason -> how many."""

    questions: tuple[OwnQuestion, ...]
    left_out: Mapping[str, int]


def own_questions(samples: Iterable[Sample], file: str) -> OwnQuestions:
    """Return the questions of samples, each with the metric that its row or its answer says.

    The same question about the same image with the same references is asked once.

    Raises:
        DataError: an unknown metric, or references that do not fit the answers.
    """
    left_out: Counter[str] = Counter()
    found: list[OwnQuestion] = []
    seen: set[Any] = set()
    ids: Counter[str] = Counter()
    for sample in samples:
        for question in _of_sample(sample, file, left_out):
            key = (question.images, question.before, question.turn, question.references)
            if (*key, question.boxes) not in seen:
                seen.add((*key, question.boxes))
                ids[question.id] += 1
                number = ids[question.id]
                unique = question.id if number == 1 else f"{question.id}@{number}"
                found.append(replace(question, id=unique))
    return OwnQuestions(tuple(_with_metrics(found)), dict(left_out))


def _of_sample(sample: Sample, file: str, left_out: Counter[str]) -> Iterable[OwnQuestion]:
    turns = sample.turns
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    references = _references(sample, len(answers), file)
    metric = _said_metric(sample, file)
    for number, place in enumerate(answers):
        asked, answer = turns[place - 1], turns[place]
        reason = _not_asked(sample, answer, metric)
        if reason is not None:
            left_out[reason] += 1
            continue
        boxes = _boxes(answer)
        texts = references[number] or ((_text(answer),) if not boxes else ())
        yield OwnQuestion(
            id=sample.id if len(answers) == 1 else f"{sample.id}#{number + 1}",
            images=sample.images,
            before=turns[: place - 1],
            turn=_bare(asked) if place == 1 else asked,
            references=() if boxes else texts,
            boxes=boxes,
            metric="iou" if boxes else metric or "",
            options=_options(sample, asked),
            keys=_keys(sample),
        )


def _not_asked(sample: Sample, answer: Turn, metric: str | None) -> str | None:
    """Why an answer is no question here, or None."""
    if not sample.images:
        return "text only: no image is needed"
    if POINTS_PLACEHOLDER in answer.text:
        return "answered by a point"
    boxes = _boxes(answer)
    if boxes and answer.box_image:
        return "its boxes lie in another image than the first"
    if metric == "iou" and not boxes:
        return "metric iou, but the answer is no box"
    if not boxes and not _text(answer):
        return "no text in the answer"
    return None


def _boxes(answer: Turn) -> tuple[Box, ...]:
    """The boxes of an answer that is boxes and nothing else."""
    alone = answer.text.strip() == BOXES_PLACEHOLDER
    return answer.boxes[0] if alone and answer.boxes else ()


def _text(answer: Turn) -> str:
    """The words of an answer; boxes inside them are not part of it."""
    return " ".join(answer.text.replace(BOXES_PLACEHOLDER, " ").split())


def _bare(asked: Turn) -> Turn:
    """The first question without the images in front of it, where every asker puts them."""
    text = asked.text
    while text.lstrip().startswith(IMAGE_PLACEHOLDER):
        text = text.lstrip().removeprefix(IMAGE_PLACEHOLDER).lstrip("\n")
    return asked if IMAGE_PLACEHOLDER in text else replace(asked, text=text.strip())


def _row(sample: Sample) -> Mapping[str, Any]:
    row = sample.meta.get(ROW)
    return row if isinstance(row, Mapping) else {}


def _said_metric(sample: Sample, file: str) -> str | None:
    said = _row(sample).get("metric")
    if said is not None and said not in METRICS:
        hint = nearest(str(said), METRICS)
        raise DataError(
            f"row {sample.id!r}: unknown metric {said!r}{hint}; known: {', '.join(METRICS)}",
            file=file,
            key="metric",
        )
    return said


def _references(sample: Sample, answers: int, file: str) -> list[tuple[str, ...]]:
    """The accepted texts of each answer of a row; empty where only the trained one is."""
    row = _row(sample)
    for key in ("references", "answers"):
        said = row.get(key, sample.meta.get(key))
        if said is None:
            continue
        lists = [said] if answers == 1 and not _nested(said) else said
        texts = [_texts(entry) for entry in lists] if isinstance(lists, list | tuple) else []
        if len(texts) != answers or not all(texts):
            wanted = "a list of texts" if answers == 1 else f"{answers} lists of texts"
            raise DataError(f"row {sample.id!r}: expected {wanted}", file=file, key=key)
        return texts
    return [()] * answers


def _nested(said: Any) -> bool:
    return isinstance(said, list | tuple) and any(isinstance(e, list | tuple) for e in said)


def _texts(entry: Any) -> tuple[str, ...]:
    entries = [entry] if isinstance(entry, str) else entry
    if not isinstance(entries, list | tuple):
        return ()
    written = [e.get("answer") if isinstance(e, dict) else e for e in entries]
    return tuple(str(e) for e in written if isinstance(e, str | int | float) and str(e).strip())


def _options(sample: Sample, asked: Turn) -> dict[str, str]:
    row = _row(sample)
    said = next((row[key] for key in ("options", "choices") if key in row), None)
    if isinstance(said, dict):
        return {str(key): str(text) for key, text in said.items()}
    if isinstance(said, list):
        return {key: str(text) for key, text in zip(_LETTERS, said, strict=False)}
    return listed_options(asked.text)


def _keys(sample: Sample) -> dict[str, str]:
    """What a row says besides with one value: groups, if they turn out to be few."""
    task = {} if sample.task is None else {"task": sample.task}
    said = {**task, **{k: v for k, v in sample.meta.items() if k != ROW}, **_row(sample)}
    return {
        key: str(value)
        for key, value in said.items()
        if key not in NO_GROUPS and isinstance(value, str | int | bool)
    }


NO_GROUPS = frozenset(
    "id image images img_path question question_id answer answers references metric conversations "
    "messages expression system caption text image_id ref_id ann_id sent_id width height".split()
)
"""Keys that say what is asked, not which kind of question it is."""


def _with_metrics(questions: Sequence[OwnQuestion]) -> Iterable[OwnQuestion]:
    """Rows that say no metric get that of all answers to the same question."""
    together: dict[str, list[OwnQuestion]] = {}
    for question in questions:
        if not question.metric:
            together.setdefault(question.turn.text, []).append(question)
    chosen = {
        text: metric_for(text, [question.references for question in group])
        for text, group in together.items()
    }
    for question in questions:
        yield question if question.metric else replace(question, metric=chosen[question.turn.text])
