"""Multi-class identification of GVTBench (Wang et al. 2023): "Does X exist in the image?".

Accuracy under GVT's rule, which looks for "yes" or "no" anywhere in the answer, or a strict one
(`scorers.counting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.gvt import constant_note, gvt_benchmark, read_gvt
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.scorers.counting import PRESENCE_VARIANTS
from manyeyes.inference.questions import Item


def read(path: Path, prompt: str) -> list[Item]:
    """One item per row; answers must hold Yes or No."""
    return [replace(i, candidates=("Yes", "No")) for i in read_gvt(path, prompt, _groups)]


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, by answer and by present objects."""
    items = answers.items
    judge = PRESENCE_VARIANTS[answers.variant]
    judged = [
        None if text is None else judge(text, item.groups["answer"] == "yes")
        for item, text in zip(items, answers.texts, strict=True)
    ]
    right = [float(bool(value)) for value in judged]
    missing = sum(text is None for text in answers.texts)
    failures = judged.count(None) - missing
    score = mean_score("accuracy", right, items)
    return Grade((score,), right, failures, (constant_note(items),))


def _groups(row: Row, answer: str) -> Mapping[str, str]:
    if ("Yes" in answer) == ("No" in answer):
        raise row.error("text_out", f"expected Yes or No, got {answer!r}")
    return {"answer": "yes" if "Yes" in answer else "no"}


BENCHMARK = gvt_benchmark(
    "identification",
    "is an object there? (GVTBench MCI), accuracy",
    "mci",
    read,
    grade,
    PRESENCE_VARIANTS,
)
