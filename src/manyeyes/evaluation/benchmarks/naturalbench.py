"""NaturalBench (Li et al. 2024): two questions on two images, each with both answers.

A group is two images and two questions, four answers: yes, no, no, yes, or A, B, B, A.

    group_accuracy      groups with all four right
    question_accuracy   questions right on both images
    image_accuracy      images with both questions right
    accuracy            single answers

The first word of an answer that is yes or no (A or B) in any letter case is what it says, as in the
authors' script; that "a" is an article does not matter to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.rows import Row, one_of
from manyeyes.evaluation.benchmarks.choices import choice_benchmark
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import released, row_images, rows_of
from manyeyes.evaluation.benchmarks.measures import majority_candidate, mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.wholes import all_right
from manyeyes.inference.questions import Item

_WORDS = {"yes_no": ("Yes", "No"), "multiple_choice": ("A", "B")}
_HOW = {
    "yes_no": "Please answer Yes or No.",
    "multiple_choice": "Please output the letter corresponding to the correct option.",
}


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """Four items per row, ``GROUP/q0_i0`` to ``GROUP/q1_i1``: each question on each image."""
    return [
        item
        for number, row in enumerate(rows_of(paths))
        for item in _items(row, str(row.value.get("Index", number)), prompt)
    ]


def grade(answers: Answers) -> Grade:
    """The four accuracies in 0..100; an item score is that of its group, at its first answer."""
    items = answers.items
    said = [None if t is None else _first(t, i.candidates) for i, t in _pairs(answers)]
    right = [float(i.references[0] == s) for i, s in zip(items, said, strict=True)]
    group, values = all_right("group_accuracy", right, items, "group")
    parts = [all_right(f"{k}_accuracy", right, items, k)[0] for k in ("question", "image")]
    single = mean_score("accuracy", right, items)
    failures = sum(t is not None and s is None for t, s in zip(answers.texts, said, strict=True))
    return Grade((group, *parts, single), values, failures)


def _items(row: Row, group: str, prompt: str) -> Iterator[Item]:
    kind = one_of(row, "Question_Type", _WORDS)
    for question in "01":
        for image in "01":
            key = f"Image_{image}_Question_{question}"
            yield Item(
                id=f"{group}/q{question}_i{image}",
                image=row_images(row, f"Image_{image}")[0],
                prompt=prompt.format(question=row.text(f"Question_{question}"), how=_HOW[kind]),
                references=(one_of(row, key, _WORDS[kind]),),
                cluster=group,
                groups={"question_type": kind},
                candidates=_WORDS[kind],
                meta={
                    "group": group,
                    "question": f"{group}/q{question}",
                    "image": f"{group}/i{image}",
                },
            )


def _pairs(answers: Answers) -> Iterator[tuple[Item, str | None]]:
    return zip(answers.items, answers.texts, strict=True)


def _first(text: str, words: Sequence[str]) -> str | None:
    found = re.search(rf"\b({'|'.join(words)})\b", text, re.IGNORECASE)
    return None if found is None else found[1].capitalize()


BENCHMARK = replace(
    choice_benchmark(
        "naturalbench",
        "two questions on two images, each with both answers (NaturalBench)",
        files=released(),
        read=read,
        load=text_loader("id", "prediction"),
        result_format='JSON lines {"id": "GROUP/q0_i0", "prediction": "Yes"}',
    ),
    metric="group_accuracy",
    prompt="{question} {how}",
    grade=grade,
    constant=majority_candidate,
    from_losses=None,
    ranking_prompt="{question}",
    unit="group",
)
