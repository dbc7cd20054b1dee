"""Exact match by question type over VQAv2-style files: one right answer per question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.vqa_pairs import (
    GENERIC,
    PROMPT,
    RESULT_FORMAT,
    majority_answers,
    read_pairs,
)
from manyeyes.evaluation.scorers.exact_match import EXACT_VARIANTS, exact_match
from manyeyes.inference.questions import Item


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; its reference is ``multiple_choice_answer``."""
    return read_pairs(paths, prompt, lambda sample: (sample.turns[-1].text,))


def grade(answers: Answers) -> Grade:
    """Share of exact matches in 0..100, by question type and answer type."""
    values = [
        0.0 if text is None else exact_match(text, item.references[0], answers.variant)
        for item, text in zip(answers.items, answers.texts, strict=True)
    ]
    return Grade((mean_score("accuracy", values, answers.items),), values)


BENCHMARK = Benchmark(
    name="exact",
    description="exact match by question type (VQAv2 files, multiple_choice_answer)",
    metric="accuracy",
    variants=tuple(EXACT_VARIANTS),
    prompt=PROMPT,
    answer="short",
    files=GENERIC.names,
    result_format=RESULT_FORMAT,
    locate=GENERIC.locate,
    read=read,
    grade=grade,
    constant=majority_answers,
    load=text_loader("question_id", "answer"),
)
