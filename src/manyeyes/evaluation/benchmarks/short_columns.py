"""Questions with a short answer, scored one by one: everything that such a benchmark is made of.

`short_benchmark` makes one of file names, the columns of a row and rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from manyeyes.data.containers.rows import Row, show
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import plain_text, row_images, rows_of
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.vqa_pairs import majority_answers
from manyeyes.inference.questions import AnswerKind, Item

PROMPT = "{question}\nAnswer the question using a single word or phrase."

Rule = Callable[[str, Item], float]
"""An answer and its question -> a share 0..1."""

Read = Callable[[Sequence[Path], str], list[Item]]


@dataclass(frozen=True)
class ShortColumns:
    """Under which keys a row holds what; of several keys the first that the row has counts.

    ``answers`` holds a text, a number, or a list of texts. ``id`` None: the number of the row, from
    1. ``listed``: the key of the list in files that are one object. ``groups``: breakdown -> keys.
    ``meta``: key of ``Item.meta`` -> keys, as text. ``asks`` is filled with the question's text.
    ``kind``: "long" where an answer may be more than a few words.
    """

    question: tuple[str, ...] = ("question",)
    answers: tuple[str, ...] = ("answers", "answer")
    image: tuple[str, ...] = ("image",)
    id: str | None = None
    listed: str | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    meta: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asks: str = "{}"
    kind: AnswerKind = "short"


def short_benchmark(
    name: str,
    description: str,
    *,
    files: tuple[str, ...],
    columns: ShortColumns,
    rules: Mapping[str, Rule],
    read: Read | None = None,
    prompt: str = PROMPT,
    metric: str = "accuracy",
    answer_key: str = "answer",
) -> Benchmark:
    """The mean of a rule's scores; the first of ``rules`` is the default."""
    key = columns.id or "id"
    return Benchmark(
        name=name,
        description=description,
        metric=metric,
        variants=tuple(rules),
        answer=columns.kind,
        prompt=prompt,
        files=files,
        holds=f"{name} questions",
        result_format=f'[{{"{key}": ..., "{answer_key}": "..."}}], or {{id: answer}}',
        read=read or short_reader(columns),
        grade=_grader(metric, rules),
        constant=majority_answers,
        load=text_loader(key, answer_key),
    )


def short_reader(columns: ShortColumns) -> Read:
    """A reader of files whose rows hold one question each, under those keys."""

    def read(paths: Sequence[Path], prompt: str) -> list[Item]:
        rows = enumerate(rows_of(paths, columns.listed), start=1)
        return [short_item(row, str(number), columns, prompt) for number, row in rows]

    return read


def short_item(row: Row, number: str, columns: ShortColumns, prompt: str) -> Item:
    """The question of one row; ``number`` is its id where the rows have none."""
    image = row_images(row, first_key(row, columns.image))[0]
    question = columns.asks.format(plain_text(row, first_key(row, columns.question)))
    return Item(
        id=number if columns.id is None else str(row.identity(columns.id)),
        image=image,
        prompt=prompt.format(question=question),
        references=references(row, first_key(row, columns.answers)),
        cluster=image,
        answer=columns.kind,
        groups=_said(row, columns.groups),
        meta=_said(row, columns.meta),
    )


def first_key(row: Row, keys: Sequence[str]) -> str:
    """The first of the keys that a row has, or the first of all."""
    return next((key for key in keys if key in row.value), keys[0])


def references(row: Row, key: str) -> tuple[str, ...]:
    """The accepted answers under a key: a list of texts, one text, or a number."""
    value = row.get(key, "answers: a text, a number, or a list of texts")
    if isinstance(value, list):
        return row.texts(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise row.error(key, f"expected a text, a number, or a list of texts, got {show(value)}")
    return (str(value),)


def _said(row: Row, keys: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    found = {name: first_key(row, several) for name, several in keys.items()}
    return {name: str(row.value[key]) for name, key in found.items() if key in row.value}


def _grader(metric: str, rules: Mapping[str, Rule]) -> Callable[[Answers], Grade]:
    def grade(answers: Answers) -> Grade:
        rule = rules[answers.variant]
        pairs = zip(answers.items, answers.texts, strict=True)
        values = [0.0 if text is None else rule(text, item) for item, text in pairs]
        return Grade((mean_score(metric, values, answers.items),), values)

    return grade
