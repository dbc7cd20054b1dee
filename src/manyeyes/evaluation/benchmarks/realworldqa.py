"""RealWorldQA (xAI 2024): pictures taken from cars and elsewhere; a letter, a word or a number.

The question says how to answer, and holds its options where it has some. A letter is read by
`scorers.multiple_choice`; any other answer must be the reference, where letter case and a final
full stop do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.evaluation.benchmarks.choices import chosen_letter
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import released
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.short_columns import ShortColumns, short_benchmark, short_reader
from manyeyes.evaluation.benchmarks.written_options import split_options
from manyeyes.evaluation.scorers.exact_match import exact_match
from manyeyes.inference.questions import Item

_COLUMNS = ShortColumns(answers=("answer",))


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per row, with candidates where the answer is one of several letters."""
    return [_with_options(item) for item in short_reader(_COLUMNS)(paths, prompt)]


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, by kind of answer."""
    items, texts = answers.items, answers.texts
    right: list[float] = []
    failures = 0
    for item, text in zip(items, texts, strict=True):
        letter = chosen_letter(item, text) if text is not None and item.candidates else None
        failures += bool(text is not None and item.candidates and letter is None)
        exact = "" if text is None else text
        same = exact_match(exact, item.references[0], "relaxed")
        right.append(float(letter == item.references[0]) if item.candidates else same)
    return Grade((mean_score("accuracy", right, items),), right, failures)


def _with_options(item: Item) -> Item:
    options = split_options(item.prompt, "{}.")[1]
    letters = "ABCDEFGH"[: len(options)]
    answer = item.references[0].strip()
    if answer not in letters or not letters:
        return replace(item, groups={"answer": "word"})
    meta = {"letters": tuple(letters)}
    return replace(
        item,
        references=(answer,),
        candidates=tuple(options),
        groups={"answer": "letter"},
        meta=meta,
    )


BENCHMARK = replace(
    short_benchmark(
        "realworldqa",
        "pictures from cars and elsewhere, a letter or a word (RealWorldQA)",
        files=released(),
        columns=_COLUMNS,
        rules={"official": lambda text, item: 0.0},
        read=read,
        prompt="{question}",
    ),
    grade=grade,
)
