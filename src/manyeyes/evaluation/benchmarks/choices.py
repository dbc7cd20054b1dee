"""Questions with lettered options: everything that a benchmark of multiple choice is made of.

`choice_benchmark` makes one of file names and the columns of a row; that is all for most of them.

A prediction is a text that names an option (`scorers.multiple_choice`), or a JSON value: the losses
of all options, of which the smallest chooses, or the place of the option.

    "B. a dog"      {"losses": [1.2, 0.3, 2.0, 0.9]}      {"choice": 1}
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Literal

from manyeyes.data.containers.rows import Row, one_of, show
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import file_rows, written_image
from manyeyes.evaluation.benchmarks.measures import mean_score, most_frequent
from manyeyes.evaluation.benchmarks.results import (
    Loader,
    is_own,
    own_prediction,
    result_rows,
    row_text,
    unique_id,
)
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.multiple_choice import chosen_option
from manyeyes.inference.questions import Item

PROMPT = "{question}\n{options}\nAnswer with the option's letter from the given choices directly."


RANKING_PROMPT = "{question}"
"""Where the options are scored, they are not listed."""

_LETTER = re.compile(r"\(?([A-Za-z])[).]?")


@dataclass(frozen=True)
class ChoiceColumns:
    """Under which keys a row holds what.

    ``options``: a list of texts, or one key for each option, of which empty ones are left out.
    ``answer`` is written as ``answers`` says: a letter ("B", "(B)", "b."), the place of an option
    from 0, or its text. ``id`` None: the number of the row in its file, from 1. ``context`` stands
    in front of the question where a row has it. ``groups``: breakdown -> key.
    """

    question: str = "question"
    options: str | tuple[str, ...] = "options"
    answer: str = "answer"
    answers: Literal["letter", "place", "text"] = "letter"
    image: str = "image"
    id: str | None = None
    context: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


def choice_benchmark(
    name: str,
    description: str,
    *,
    files: tuple[str, ...],
    read_one: Callable[[Path, str], list[Item]] | ChoiceColumns,
    holds: str | None = None,
    load: Loader | None = None,
    result_format: str = 'JSON lines {"id": ..., "prediction": "A"}, or "losses": [a, b, ...]',
) -> Benchmark:
    """Accuracy over questions with options, asked for a letter or ranked by loss.

    ``read_one``: the columns of a table, a list, lines or a parquet file, or a reader of its own.
    """
    reader = read_one
    return Benchmark(
        name=name,
        description=description,
        prompt=PROMPT,
        files=files,
        holds=holds or f"{name} questions",
        result_format=result_format,
        read_one=_column_reader(reader) if isinstance(reader, ChoiceColumns) else reader,
        grade=grade_choices,
        constant=majority_letter,
        load=load or choice_loader("id"),
        ranking_prompt=RANKING_PROMPT,
        from_losses=from_losses,
    )


def choice_item(
    prompt: str,
    *,
    id: str,
    image: str,
    cluster: str,
    question: str,
    options: Mapping[str, str],
    answer: str,
    groups: Mapping[str, str],
    split: str | None = None,
) -> Item:
    """One question; ``options``: letter -> text, ``answer``: the right letter."""
    return Item(
        id=id,
        image=image,
        prompt=prompt.format(question=question, options=lettered(options)),
        references=(answer,),
        cluster=cluster,
        groups=groups,
        candidates=tuple(options.values()),
        split=split,
        meta={"letters": tuple(options)},
    )


def _column_reader(columns: ChoiceColumns) -> Callable[[Path, str], list[Item]]:
    def read(path: Path, prompt: str) -> list[Item]:
        return [
            _column_item(row, number, columns, prompt)
            for number, row in enumerate(file_rows(path), start=1)
        ]

    return read


def _column_item(row: Row, number: int, columns: ChoiceColumns, prompt: str) -> Item:
    image = written_image(row, columns.image, row.get(columns.image, "an image, or its path"))
    options = _options(row, columns)
    question = row.text(columns.question)
    if columns.context is not None and columns.context in row.value:
        question = f"{row.text(columns.context)}\n{question}"
    return choice_item(
        prompt,
        id=str(number) if columns.id is None else str(row.identity(columns.id)),
        image=image,
        cluster=image,
        question=question,
        options=options,
        answer=_right_letter(row, columns, options),
        groups={
            name: str(row.identity(key)) for name, key in columns.groups.items() if key in row.value
        },
    )


def _options(row: Row, columns: ChoiceColumns) -> dict[str, str]:
    if isinstance(columns.options, str):
        texts = row.texts(columns.options)
    else:
        texts = tuple(row.text(key) for key in columns.options if key in row.value)
    if not 2 <= len(texts) <= len(ascii_uppercase):
        where = columns.options if isinstance(columns.options, str) else columns.options[0]
        raise row.error(where, f"expected 2 to 26 options, got {len(texts)}")
    return dict(zip(ascii_uppercase, texts, strict=False))


def _right_letter(row: Row, columns: ChoiceColumns, options: Mapping[str, str]) -> str:
    key, letters = columns.answer, list(options)
    if columns.answers == "text":
        text = one_of(row, key, tuple(options.values()))
        return letters[tuple(options.values()).index(text)]
    written = str(row.identity(key)).strip()
    if columns.answers == "place":
        if written.isdecimal() and int(written) < len(letters):
            return letters[int(written)]
        raise row.error(key, f"expected a place from 0 to {len(letters) - 1}, got {written!r}")
    found = _LETTER.fullmatch(written)
    if found is None or found[1].upper() not in options:
        raise row.error(key, f"expected one of {', '.join(letters)}, got {written!r}")
    return found[1].upper()


def grade_choices(answers: Answers) -> Grade:
    """Accuracy in 0..100; the notes say which protocol the answers were given by."""
    given, chosen = answers.predictions, chosen_letters(answers)
    right = [float(i.references[0] == c) for i, c in zip(answers.items, chosen, strict=True)]
    ranked = sum(p is not None and not isinstance(p, str) for p in given)
    written = sum(isinstance(p, str) for p in given)
    notes = (f"choices by the smallest loss: {ranked}; by a written answer: {written}",)
    failures = sum(p is not None and c is None for p, c in zip(given, chosen, strict=True))
    return Grade((mean_score("accuracy", right, answers.items),), right, failures, notes)


def choice_loader(*id_keys: str) -> Loader:
    """A loader of rows with one of ``id_keys`` and a ``prediction`` or ``losses``."""

    def load(path: Path) -> dict[str, Prediction]:
        found: dict[str, Prediction] = {}
        for row in result_rows(path):
            if is_own(row):
                found[unique_id(row, "id", found)] = own_prediction(row)
                continue
            id_key = next((key for key in id_keys if key in row.value), id_keys[-1])
            key = unique_id(row, id_key, found)
            losses = "losses" in row.value
            found[key] = parse_losses(row, "losses") if losses else row_text(row, "prediction")
        return found

    return load


def from_losses(item: Item, losses: Sequence[float]) -> Prediction:
    """The prediction of a model that scored all options."""
    return {"losses": list(losses)}


def lettered(options: Mapping[str, str]) -> str:
    """The options as a prompt shows them: "A. a dog", one a line."""
    return "\n".join(f"{letter}. {text}" for letter, text in options.items())


def chosen_letters(answers: Answers) -> list[str | None]:
    """The option of every prediction, None where there is none or it cannot be said."""
    given = zip(answers.items, answers.predictions, strict=True)
    return [None if p is None else chosen_letter(item, p) for item, p in given]


def chosen_letter(item: Item, prediction: Prediction) -> str | None:
    """The option that a prediction chooses, None where it cannot be said.

    Raises:
        DataError: losses or a place that do not fit the item's options.
    """
    names = item.meta.get("letters", ascii_uppercase)
    options = dict(zip(names, item.candidates, strict=False))
    if isinstance(prediction, str):
        return chosen_option(prediction, options)
    letters = list(options)
    if isinstance(prediction, Mapping) and "losses" in prediction:
        losses = prediction["losses"]
        if len(losses) != len(letters):
            message = f"expected {len(letters)} losses for {item.id!r}, got {len(losses)}"
            raise DataError(message)
        return letters[losses.index(min(losses))]
    if isinstance(prediction, Mapping) and "choice" in prediction:
        place = prediction["choice"]
        return letters[place] if 0 <= place < len(letters) else None
    raise DataError(f"expected a text or losses as the prediction for {item.id!r}")


def parse_losses(row: Row, key: str) -> Prediction:
    """The losses of all options under a key: a list of finite numbers."""
    expected = "a list of finite numbers"
    values = row.items(key, expected)
    if not values or not all(_is_finite(value) for value in values):
        raise row.error(key, f"expected {expected}, got {show(values)}")
    return {"losses": [float(value) for value in values]}


def majority_letter(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The letter that is right most often, everywhere (ties: first in the alphabet)."""
    return [most_frequent(Counter(item.references[0] for item in counted))] * len(items)


def _is_finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
