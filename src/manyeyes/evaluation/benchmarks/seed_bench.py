"""SEED-Bench (Li et al. 2023): four choices, by type of question; accuracy over all questions.

The official script ranks: it scores each choice by its mean token loss and takes the smallest
(``losses`` in a result). Models that write a letter are read by `scorers.multiple_choice`; that is
another protocol, and the notes say which one a result used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, one_of
from manyeyes.evaluation.benchmarks.choices import (
    PROMPT,
    RANKING_PROMPT,
    chosen_letter,
    from_losses,
    lettered,
    majority_letter,
    parse_losses,
)
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import (
    Source,
    expect_files,
    find_file,
    list_rows,
    written_image,
)
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import (
    is_own,
    own_prediction,
    result_rows,
    row_text,
    unique_id,
)
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item

FILES = ("SEED-Bench.json", "annotations/SEED-Bench.json")
_LETTERS = "ABCD"
_KINDS = ("image", "video")


def locate(source: Source) -> list[Path]:
    """The one file."""
    return [find_file(source, FILES, "SEED-Bench questions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question, in the splits ``image`` and ``video``, and both in ``all``.

    A file with questions of one kind only has no splits.
    """
    (path,) = expect_files(paths, "SEED-Bench questions")
    document = open_document(path)
    types = _type_names(document.whole() if document.layout == "object" else None)
    items = [_item(row, types, prompt) for row in list_rows(document, "questions")]
    if len({item.split for item in items}) == 1:
        return [replace(item, split=None) for item in items]
    return items + [replace(item, split="all") for item in items]


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, also by type of question."""
    items, given = answers.items, answers.predictions
    chosen = [None if p is None else chosen_letter(i, p) for i, p in zip(items, given, strict=True)]
    right = [float(i.references[0] == c) for i, c in zip(items, chosen, strict=True)]
    ranked = sum(p is not None and not isinstance(p, str) for p in given)
    written = sum(isinstance(p, str) for p in given)
    notes = (f"choices by the smallest loss: {ranked}; by a written answer: {written}",)
    failures = sum(p is not None and c is None for p, c in zip(given, chosen, strict=True))
    return Grade((mean_score("accuracy", right, items),), right, failures, notes)


def load(path: Path) -> dict[str, Prediction]:
    """Rows with ``question_id`` (or ``q_id``, as the script writes) and an answer or losses."""
    found: dict[str, Prediction] = {}
    for row in result_rows(path):
        if is_own(row):
            found[unique_id(row, "id", found)] = own_prediction(row)
            continue
        key = unique_id(row, "q_id" if "q_id" in row.value else "question_id", found)
        losses = "losses" in row.value
        found[key] = parse_losses(row, "losses") if losses else row_text(row, "prediction")
    return found


def _item(row: Row, types: Mapping[str, str], prompt: str) -> Item:
    kind = one_of(row, "data_type", _KINDS) if "data_type" in row.value else "image"
    data = str(row.identity("data_id"))
    options = {letter: row.text(f"choice_{letter.lower()}") for letter in _LETTERS}
    number = str(row.identity("question_type_id"))
    return Item(
        id=str(row.identity("question_id")),
        image=written_image(row, "data_id", data),
        prompt=prompt.format(question=row.text("question"), options=lettered(options)),
        references=(one_of(row, "answer", tuple(_LETTERS)),),
        cluster=data,
        groups={"question_type": types.get(number, number)},
        candidates=tuple(options.values()),
        split=kind,
    )


def _type_names(whole: Row | None) -> dict[str, str]:
    """The number of each type of question -> its name."""
    names = {} if whole is None else whole.value.get("question_type")
    return {str(number): name for name, number in names.items()} if isinstance(names, dict) else {}


BENCHMARK = Benchmark(
    name="seed-bench",
    description="four choices by type of question (SEED-Bench), by loss or by letter",
    metric="accuracy",
    variants=("official",),
    prompt=PROMPT,
    answer="short",
    files=FILES,
    result_format='JSON lines {"question_id": ..., "prediction": "A"}, or "losses": [a, b, c, d]',
    locate=locate,
    read=read,
    grade=grade,
    constant=majority_letter,
    load=load,
    ranking_prompt=RANKING_PROMPT,
    from_losses=from_losses,
)
