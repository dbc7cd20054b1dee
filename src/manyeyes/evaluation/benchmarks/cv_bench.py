"""CV-Bench (Tong et al. 2024, Cambrian-1): 2D questions (ADE20K, COCO) and 3D ones (Omni3D).

    2D = (accuracy on ADE20K + accuracy on COCO) / 2      3D = accuracy on Omni3D
    combined = (2D + 3D) / 2

"official" is headed by ``combined``, "plain" by the accuracy over all questions; the sources have
different numbers of questions, so the two differ. A part that a file lacks is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from manyeyes.evaluation.benchmarks.choices import (
    WRITTEN_PROMPT,
    ChoiceColumns,
    choice_benchmark,
    grade_choices,
)
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import released
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores
from manyeyes.evaluation.benchmarks.wholes import mean_of_means
from manyeyes.evaluation.confidence.intervals import FloatArray

PARTS = ("2D", "3D")


def grade(answers: Answers) -> Grade:
    """The formula's parts and the accuracy over all questions, in 0..100."""
    plain, items = grade_choices(answers), answers.items
    right = [float(value or 0.0) for value in plain.per_item]
    parts = [part for part in PARTS if any(item.groups["type"] == part for item in items)]
    mean = mean_of_means(right, items, ("type", "source"))
    inside = [[float(item.groups["type"] == part) for item in items] for part in parts]
    names = [*(["combined"] if len(parts) > 1 else []), *(f"accuracy_{part}" for part in parts)]

    def values(weights: FloatArray) -> Sequence[float]:
        found = [mean(weights * part) if weights @ part else 0.0 for part in inside]
        return [mean(weights), *found] if len(parts) > 1 else found

    corpus = Corpus(tuple(names), values)
    formula = corpus_scores(corpus, items)
    ordered = (
        [*formula, *plain.scores] if answers.variant == "official" else [*plain.scores, *formula]
    )
    return replace(plain, scores=tuple(ordered), corpus=corpus)


BENCHMARK = replace(
    choice_benchmark(
        "cv-bench",
        "counts, places, depths and distances (CV-Bench)",
        files=(*released(), "{split}.jsonl", "{split}_*d.parquet"),
        read_one=ChoiceColumns(
            options="choices",
            image="filename",
            id="idx",
            written="prompt",
            groups={"type": "type", "task": "task", "source": "source"},
        ),
    ),
    metric="combined",
    variants=("official", "plain"),
    prompt=WRITTEN_PROMPT,
    grade=grade,
)
