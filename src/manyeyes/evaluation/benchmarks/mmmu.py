"""MMMU (Yue et al. 2024): questions of 30 college subjects, with options or open, up to 7 images.

Accuracy over all questions, by discipline, subject and kind. Images are those that the question or
its options mention (``<image 1>``), in the order of their numbers.

official   the authors' reading of answers (`scorers.mmmu`); where it reads none it guesses, here
           such an answer is wrong and counted
letters    options by `scorers.multiple_choice`, as in other benchmarks
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.choices import choice_benchmark, chosen_letter, lettered
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import released, row_images, rows_of
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.short_columns import references
from manyeyes.evaluation.benchmarks.vqa_pairs import majority_answers
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.mmmu import mmmu_open, mmmu_option
from manyeyes.inference.questions import Item

_DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Pharmacy Public_Health"
    " Diagnostics_and_Laboratory_Medicine",
    "Humanities and Social Science": "History Literature Psychology Sociology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics"
    " Energy_and_Power Materials Mechanical_Engineering",
}
_HOME = {subject: name for name, them in _DISCIPLINES.items() for subject in them.split()}
_MENTIONED = re.compile(r"<image (\d)>")
_WORD = "Answer the question using a single word or phrase."
_LETTER = "Answer with the option's letter from the given choices directly."


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; several accepted answers are its references."""
    return [_item(row, prompt) for row in rows_of(paths)]


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, by discipline, subject and kind of question."""
    items, given = answers.items, answers.predictions
    judged = [
        None if said is None else _judge(item, said, answers.variant)
        for item, said in zip(items, given, strict=True)
    ]
    right = [float(bool(value)) for value in judged]
    failures = judged.count(None) - sum(said is None for said in given)
    return Grade((mean_score("accuracy", right, items),), right, failures)


def _judge(item: Item, given: Prediction, variant: str) -> bool | None:
    if not item.candidates:
        return mmmu_open(str(given), item.references)
    options = dict(zip(item.meta["letters"], item.candidates, strict=True))
    written = isinstance(given, str) and variant == "official"
    said = mmmu_option(str(given), options) if written else chosen_letter(item, given)
    return None if said is None else said in item.references


def _item(row: Row, prompt: str) -> Item:
    identity = row.text("id")
    subject = identity.partition("_")[2].rpartition("_")[0]
    several = row.text("question_type") == "multiple-choice"
    options = dict(zip(ascii_uppercase, _listed(row, "options"), strict=False)) if several else {}
    question = row.text("question")
    shown = f"{question}\n{lettered(options)}".strip()
    numbers = sorted(set(_MENTIONED.findall(shown)))
    images = row_images(row, [f"image_{number}" for number in numbers] or ["image_1"])
    kinds = {"discipline": _HOME.get(subject, "other"), "subject": subject}
    return Item(
        id=identity,
        image=images[0],
        more_images=tuple(images[1:]),
        prompt=prompt.format(question=question, listed=shown, how=_LETTER if several else _WORD),
        references=tuple(_listed(row, "answer")),
        cluster=images[0],
        groups={**kinds, "question_type": "options" if several else "open"},
        candidates=tuple(options.values()),
        meta={"letters": tuple(options)},
    )


def _listed(row: Row, key: str) -> Sequence[str]:
    """A list, or the text of one as the release has it, or one text."""
    said = references(row, key)
    if len(said) > 1 or not said[0].startswith("["):
        return said
    try:
        found = ast.literal_eval(said[0])
    except (ValueError, SyntaxError):
        return said
    return [str(one) for one in found] if isinstance(found, list) else said


BENCHMARK = replace(
    choice_benchmark(
        "mmmu",
        "college subjects, with options or open, up to 7 images (MMMU)",
        files=("*/{split}-*-of-*.parquet", *released()),
        read=read,
        result_format='{id: "A"}, or JSON lines {"id": ..., "prediction": "A"}',
    ),
    variants=("official", "letters"),
    prompt="{listed}\n{how}",
    grade=grade,
    constant=majority_answers,
)
