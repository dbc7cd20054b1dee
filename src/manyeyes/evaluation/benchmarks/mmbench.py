"""MMBench (Liu et al. 2023): multiple choice by ability, asked once for every rotation of options.

The file is a table (TSV) with images in base64. A rotated copy of question i has the index
i + k·10⁶; copies that the file lacks are made here.

circular   a question counts only if all its rotations are answered right (the paper's CircularEval)
vanilla    the questions as they stand (index below 10⁶), each for itself

Answers are read without a judge (`scorers.multiple_choice`); where that fails the answer is wrong
and counted. The leaderboard asks GPT-4 in such cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

from manyeyes.data.containers.rows import Row, one_of
from manyeyes.data.containers.tables import CellImage, table_rows
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.choices import (
    PROMPT,
    RANKING_PROMPT,
    choice_item,
    chosen_letters,
    from_losses,
    lettered,
    majority_letter,
)
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import TABLE_SUFFIXES, placed
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item

FILES = ("MMBench_{split}.tsv", *placed("mmbench_{split}.tsv"))
COPIES = 1_000_000
"""The indices of rotated copies differ by multiples of this."""

_LONGEST_INDEX = 16
"""A shorter image cell is the index of the row whose image it shares."""

_from_json = text_loader("index", "prediction")


def read(path: Path, prompt: str) -> list[Item]:
    """One item per question and rotation, those of the file first."""
    rows = {_index(row): row for row in _unique(path)}
    if not rows:
        raise DataError("holds no rows", file=str(path))
    images = {index: _image(row, index, rows) for index, row in rows.items()}
    items = [_item(row, index, images[index], prompt) for index, row in rows.items()]
    known = set(rows)
    for item in items[:]:
        if int(item.id) < COPIES:
            items += [copy for copy in _rotations(item, prompt) if int(copy.id) not in known]
    return items


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, also by category; an item score is that of its question."""
    items, given = answers.items, answers.predictions
    circular = answers.variant == "circular"
    if circular:
        _check_copies(items, given)
    chosen = chosen_letters(answers)
    right = [i.references[0] == c for i, c in zip(items, chosen, strict=True)]
    groups: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        if circular or int(item.id) < COPIES:
            groups.setdefault(item.meta["question"], []).append(place)
    heads = [min(places, key=lambda place: int(items[place].id)) for places in groups.values()]
    hits = [float(all(right[place] for place in places)) for places in groups.values()]
    per_item: list[float | None] = [None] * len(items)
    for head, hit in zip(heads, hits, strict=True):
        per_item[head] = hit
    asked = [place for places in groups.values() for place in places]
    failures = sum(given[place] is not None and chosen[place] is None for place in asked)
    notes = (f"{len(groups)} questions in {len(asked)} rotations",) if circular else ()
    score = mean_score("accuracy", hits, [items[head] for head in heads])
    return Grade((score,), per_item, failures, notes)


def load(path: Path) -> dict[str, Prediction]:
    """A table with the columns ``index`` and ``prediction``, or the same in JSON."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return _from_json(path)
    found: dict[str, Prediction] = {}
    for row in table_rows(path, ("index", "prediction")):
        index = str(_index(row))
        if index in found:
            raise row.error("index", f"{index!r} occurs twice; expected one prediction per id")
        found[index] = str(row.value.get("prediction", ""))
    return found


def _check_copies(items: Sequence[Item], given: Sequence[Prediction | None]) -> None:
    """Refuse predictions for the questions alone; missing ones were allowed if others are too."""
    missing = [i for i, p in zip(items, given, strict=True) if p is None]
    if missing and not any(item.required for item in missing):
        message = (
            f"mmbench: no prediction for {len(missing)} rotated copies, first {missing[0].id!r}; "
            "answer them too, or use the variant 'vanilla'"
        )
        raise DataError(message)


def _unique(path: Path) -> Iterator[Row]:
    seen: set[int] = set()
    for row in table_rows(path, ("index", "image", "question", "A", "B", "answer")):
        index = _index(row)
        if index in seen:
            raise row.error("index", f"{index} occurs twice; expected one row per index")
        seen.add(index)
        yield row


def _index(row: Row) -> int:
    text = row.text("index")
    if not text.isdecimal():
        raise row.error("index", f"expected a whole number, got {text!r}")
    return int(text)


def _image(row: Row, index: int, rows: Mapping[int, Row]) -> str:
    """The image of a row; rows that share one hold the index of the row that has it."""
    cell = row.text("image")
    if len(cell) > _LONGEST_INDEX or not cell.isdecimal():
        return CellImage.of(f"{row.file}/{index}", cell)
    shared = rows.get(int(cell))
    if shared is None or len(shared.text("image")) <= _LONGEST_INDEX:
        raise row.error("image", f"expected an image or the index of a row with one, got {cell!r}")
    return CellImage.of(f"{row.file}/{int(cell)}", shared.text("image"))


def _item(row: Row, index: int, image: str, prompt: str) -> Item:
    options = {letter: row.text(letter) for letter in ascii_uppercase if letter in row.value}
    if len(options) < 2:
        raise row.error("A", "expected at least two options")
    if "answer" not in row.value:
        raise row.error("answer", "is empty; test files are scored by their server only")
    question = row.text("question")
    if "hint" in row.value:
        question = f"{row.text('hint')}\n{question}"
    names = {"category": "category", "l2_category": "l2-category"}
    item = choice_item(
        prompt,
        id=str(index),
        image=image,
        cluster=image,
        question=question,
        options=options,
        answer=one_of(row, "answer", options),
        groups={name: row.text(key) for name, key in names.items() if key in row.value},
    )
    meta = {**item.meta, "question": str(index % COPIES), "asked": question}
    return replace(item, meta=meta, required=index < COPIES)


def _rotations(item: Item, prompt: str) -> Iterator[Item]:
    """The copies of a question with its options turned by 1, 2, ..."""
    letters: tuple[str, ...] = item.meta["letters"]
    right = letters.index(item.references[0])
    for turn in range(1, len(letters)):
        choices = (*item.candidates[turn:], *item.candidates[:turn])
        options = lettered(dict(zip(letters, choices, strict=True)))
        yield replace(
            item,
            id=str(int(item.id) + turn * COPIES),
            prompt=prompt.format(question=item.meta["asked"], options=options),
            references=(letters[(right - turn) % len(letters)],),
            candidates=choices,
            required=False,
        )


BENCHMARK = Benchmark(
    name="mmbench",
    description="multiple choice by ability, all rotations of the options (MMBench)",
    variants=("circular", "vanilla"),
    prompt=PROMPT,
    files=FILES,
    result_format='table with the columns index and prediction, or [{"index", "prediction"}]',
    holds="MMBench table",
    read_one=read,
    grade=grade,
    constant=majority_letter,
    load=load,
    ranking_prompt=RANKING_PROMPT,
    from_losses=from_losses,
)
