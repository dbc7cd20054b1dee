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
from typing import Any, Literal

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, one_of, show
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import plain_text, record_rows, row_images, rows_of
from manyeyes.evaluation.benchmarks.measures import mean_score, most_frequent
from manyeyes.evaluation.benchmarks.results import (
    Loader,
    is_keyed,
    is_own,
    own_prediction,
    row_text,
    unique_id,
)
from manyeyes.evaluation.benchmarks.written_options import split_options
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.multiple_choice import chosen_option
from manyeyes.inference.questions import Item

PROMPT = "{question}\n{options}\nAnswer with the option's letter from the given choices directly."

WRITTEN_PROMPT = "{written}\nAnswer with the option's letter from the given choices directly."
"""The question with its options as the file writes them."""

RANKING_PROMPT = "{question}"
"""Where the options are scored, they are not listed."""

_LETTER = re.compile(r"\(?([A-Za-z])[).]?")


@dataclass(frozen=True)
class ChoiceColumns:
    """Under which keys a row holds what.

    ``options``: a list of texts, or one key for each option, of which empty ones are left out, and
    if there are none of them, or ``options`` is empty, the question's text holds them, marked as
    ``mark`` says (`split_options`); a text that marks none offers ``letters``. ``answer`` is
    written as ``answers`` says: a letter ("B", "(B)", "b."), the place of an option from 0, or its
    text. ``image``: a key, or those of several
    images in order, of which empty ones are left out. ``id`` None: the number of the row, from 1.
    ``context`` stands in front of the question where a row has it. ``written``: the question with
    its options as the file writes them (None: both below each other). ``groups``: breakdown -> key.
    ``meta``: key of ``Item.meta`` -> key, as text.
    """

    question: str = "question"
    options: str | tuple[str, ...] = "options"
    answer: str = "answer"
    answers: Literal["letter", "place", "text"] = "letter"
    image: str | tuple[str, ...] = "image"
    id: str | None = None
    context: str | None = None
    written: str | None = None
    mark: str = "({})"
    letters: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)


def choice_benchmark(
    name: str,
    description: str,
    *,
    files: tuple[str, ...],
    read_one: Callable[[Path, str], list[Item]] | ChoiceColumns | None = None,
    read: Callable[[Sequence[Path], str], list[Item]] | None = None,
    holds: str | None = None,
    load: Loader | None = None,
    result_format: str = 'JSON lines {"id": ..., "prediction": "A"}, or "losses": [a, b, ...]',
) -> Benchmark:
    """Accuracy over questions with options, asked for a letter or ranked by loss.

    ``read_one``: the columns of a table, a list, lines or a parquet file, or a reader of its own;
    ``read``: a reader of several files.
    """
    reader = read_one
    return Benchmark(
        name=name,
        description=description,
        prompt=PROMPT,
        files=files,
        holds=holds or f"{name} questions",
        result_format=result_format,
        read=column_reader(reader) if isinstance(reader, ChoiceColumns) else read,
        read_one=None if isinstance(reader, ChoiceColumns) else reader,
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
    written: str | None = None,
    more_images: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
) -> Item:
    """One question; ``options``: letter -> text, ``answer``: the right letter."""
    listed = f"{question}\n{lettered(options)}" if written is None else written
    return Item(
        id=id,
        image=image,
        more_images=tuple(more_images),
        prompt=prompt.format(question=question, options=lettered(options), written=listed),
        references=(answer,),
        cluster=cluster,
        groups=groups,
        candidates=tuple(options.values()),
        split=split,
        meta={**(meta or {}), "letters": tuple(options)},
    )


def column_reader(columns: ChoiceColumns) -> Callable[[Sequence[Path], str], list[Item]]:
    """A reader of files whose rows hold one question each, under those keys."""

    def read(paths: Sequence[Path], prompt: str) -> list[Item]:
        return [
            column_item(row, str(number), columns, prompt)
            for number, row in enumerate(rows_of(paths), start=1)
        ]

    return read


def column_item(row: Row, number: str, columns: ChoiceColumns, prompt: str) -> Item:
    """The question of one row; ``number`` is its id where the rows have none."""
    images = row_images(row, columns.image)
    question, options = _question(row, columns)
    if columns.context is not None and columns.context in row.value:
        question = f"{row.text(columns.context)}\n{question}"
    return choice_item(
        prompt,
        id=number if columns.id is None else str(row.identity(columns.id)),
        image=images[0],
        more_images=images[1:],
        cluster=images[0],
        question=question,
        options=options,
        answer=_right_letter(row, columns, options),
        groups=_said(row, columns.groups),
        written=_written(row, columns),
        meta=_said(row, columns.meta),
    )


def _written(row: Row, columns: ChoiceColumns) -> str | None:
    """The question with its options as the row has it; None where the options stand apart."""
    apart = isinstance(columns.options, tuple) and any(key in row.value for key in columns.options)
    if columns.written is None or columns.written not in row.value or apart:
        return None
    return plain_text(row, columns.written)


def _said(row: Row, keys: Mapping[str, str]) -> dict[str, str]:
    return {name: str(row.identity(key)) for name, key in keys.items() if key in row.value}


def _question(row: Row, columns: ChoiceColumns) -> tuple[str, dict[str, str]]:
    """The question, and letter -> text of its options."""
    question = plain_text(row, columns.question)
    if isinstance(columns.options, str):
        texts, where = row.texts(columns.options), columns.options
    else:
        found = [key for key in columns.options if key in row.value]
        texts, where = tuple(str(row.identity(key)) for key in found), (*found, columns.question)[0]
        if not found:
            question, inside = split_options(question, columns.mark)
            texts = tuple(inside or (f"({letter})" for letter in columns.letters))
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise row.error(where, f"expected 2 to 26 options, got {len(texts)}")
    return question, dict(zip(ascii_uppercase, texts, strict=False))


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
    """A loader of rows with one of ``id_keys`` and a ``prediction`` or ``losses``; also takes
    ``{id: text}``.
    """

    def load(path: Path) -> dict[str, Prediction]:
        document = open_document(path)
        if is_keyed(document, *id_keys):
            whole = document.whole()
            return {key: row_text(whole, key) for key in document.content}
        found: dict[str, Prediction] = {}
        for row in record_rows(document):
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
