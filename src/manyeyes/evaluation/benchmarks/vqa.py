"""VQA accuracy over VQAv2-style question and annotation files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.vqa_pairs import (
    FILES,
    PROMPT,
    locate,
    majority_answers,
    read_pairs,
)
from manyeyes.evaluation.contract import Item
from manyeyes.evaluation.scorers.vqa import VQA_VARIANTS, vqa_accuracy


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; its references are the human answers."""
    return read_pairs(paths, prompt, lambda sample: tuple(sample.meta["answers"]))


def grade(answers: Answers) -> Grade:
    """VQA accuracy in 0..100, by question type and answer type."""
    values = [
        0.0 if text is None else vqa_accuracy(text, item.references, answers.variant)
        for item, text in zip(answers.items, answers.texts, strict=True)
    ]
    return Grade((mean_score("accuracy", values, answers.items),), values)


BENCHMARK = Benchmark(
    name="vqa",
    description="VQA accuracy against ten human answers (VQAv2 files)",
    metric="accuracy",
    variants=tuple(VQA_VARIANTS),
    prompt=PROMPT,
    answer="short",
    files=FILES,
    result_format='[{"question_id": ..., "answer": "..."}]',
    locate=locate,
    read=read,
    grade=grade,
    constant=majority_answers,
    load=text_loader("question_id", "answer"),
)
