"""ScienceQA (Lu et al. 2022): school questions with two to five options and, here, an image.

Rows without an image are left out: what is left is known as SQA-IMG. Accuracy by subject, by the
grades 1 to 6 and 7 to 12, and by whether a text (``hint``) helps. Results are those of the authors'
scripts, ``{"results": {ID: place}}``, or answers as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.choices import ChoiceColumns, choice_benchmark, column_item
from manyeyes.evaluation.benchmarks.files import placed, released, rows_of
from manyeyes.evaluation.benchmarks.place_results import load_places
from manyeyes.evaluation.benchmarks.results import keyed_rows
from manyeyes.inference.questions import Item

_LAST_OF_FIRST_GRADES = 6
_COLUMNS = ChoiceColumns(
    options="choices", answers="place", context="hint", groups={"subject": "subject"}
)


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question with an image, of ``problems.json`` or of parquet files."""
    return [_item(row, name, prompt) for row, name in _rows(paths) if row.value.get("image")]


def _rows(paths: Sequence[Path]) -> Iterator[tuple[Row, str]]:
    if paths[0].suffix == ".json":
        yield from ((row, name) for path in paths for name, row in keyed_rows(path))
    else:
        yield from ((row, str(number)) for number, row in enumerate(rows_of(paths), start=1))


def _item(row: Row, name: str, prompt: str) -> Item:
    hint = str(row.value.get("hint", "")).strip()
    value = {key: said for key, said in row.value.items() if key != "hint" or hint}
    split = str(row.value["split"]) if "split" in row.value else None
    if split is not None:  # the release keeps images at SPLIT/ID/image.png
        value["image"] = f"{split}/{name}/{value['image']}"
    item = column_item(row.within(value, row.prefix), name, _COLUMNS, prompt)
    grade = str(row.value.get("grade", "")).removeprefix("grade")
    more = {"text": "with text" if hint else "no text"}
    if grade.isdecimal():
        more["grades"] = "1-6" if int(grade) <= _LAST_OF_FIRST_GRADES else "7-12"
    return replace(item, groups={**item.groups, **more}, split=split)


BENCHMARK = choice_benchmark(
    "scienceqa",
    "school questions with an image (ScienceQA)",
    files=(*placed("problems.json"), *released("ScienceQA-IMG")),
    read=read,
    load=load_places,
    result_format='{"results": {ID: place from 0}}, {id: answer}, or rows with losses',
)
