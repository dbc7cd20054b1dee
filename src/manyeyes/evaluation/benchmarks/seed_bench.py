"""SEED-Bench (Li et al. 2023): four choices, by type of question; accuracy over all questions.

The official script ranks: it scores each choice by its mean token loss and takes the smallest
(``losses`` in a result). Models that write a letter are read by `scorers.multiple_choice`; that is
another protocol, and the notes say which one a result used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, one_of
from manyeyes.evaluation.benchmarks.choices import choice_benchmark, choice_item, choice_loader
from manyeyes.evaluation.benchmarks.files import list_rows, placed, written_image
from manyeyes.inference.questions import Item

_LETTERS = "ABCD"
_KINDS = ("image", "video")


def _read(path: Path, prompt: str) -> list[Item]:
    """One item per question, in the splits ``image`` and ``video``, and both in ``all``.

    A file with questions of one kind only has no splits.
    """
    document = open_document(path)
    types = _type_names(document.whole() if document.layout == "object" else None)
    items = [_item(row, types, prompt) for row in list_rows(document, "questions")]
    if len({item.split for item in items}) == 1:
        return [replace(item, split=None) for item in items]
    return items + [replace(item, split="all") for item in items]


def _item(row: Row, types: Mapping[str, str], prompt: str) -> Item:
    data = str(row.identity("data_id"))
    number = str(row.identity("question_type_id"))
    return choice_item(
        prompt,
        id=str(row.identity("question_id")),
        image=written_image(row, "data_id", data),
        cluster=data,
        question=row.text("question"),
        options={letter: row.text(f"choice_{letter.lower()}") for letter in _LETTERS},
        answer=one_of(row, "answer", tuple(_LETTERS)),
        groups={"question_type": types.get(number, number)},
        split=one_of(row, "data_type", _KINDS) if "data_type" in row.value else "image",
    )


def _type_names(whole: Row | None) -> dict[str, str]:
    """The number of each type of question -> its name."""
    names = {} if whole is None else whole.value.get("question_type")
    return {str(number): name for name, number in names.items()} if isinstance(names, dict) else {}


BENCHMARK = choice_benchmark(
    "seed-bench",
    "four choices by type of question (SEED-Bench), by loss or by letter",
    files=placed("SEED-Bench.json"),
    holds="SEED-Bench questions",
    result_format='JSON lines {"question_id": ..., "prediction": "A"}, or "losses": [a, b, c, d]',
    read_one=_read,
    load=choice_loader("q_id", "question_id"),
)
