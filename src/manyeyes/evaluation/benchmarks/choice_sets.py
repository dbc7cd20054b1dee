"""Benchmarks with options that are only data: which columns of which files, and what is averaged.

AI2D (Kembhavi et al. 2016): diagrams; four options by their place. In the usual release letters
mask the names of the parts; there is a copy in which the names are in sight, another benchmark.

BLINK (Fu et al. 2024): 14 tasks of perception, one to four images a question. "official" is the
mean over the tasks, whose sizes differ; "plain" the mean over all questions.

MMStar (Chen et al. 2024): questions that need their image. "official" is the mean over its 1,500
questions; "axes" the mean over the 18 axes, as lmms-eval reports it.

V* (Wu and Xie 2023): small things in large images. The authors rank the options by likelihood; with
letters the order matters (the separate JSON files have the right option first everywhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from manyeyes.evaluation.benchmarks.choices import (
    WRITTEN_PROMPT,
    ChoiceColumns,
    choice_benchmark,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import placed, released
from manyeyes.evaluation.benchmarks.wholes import macro_grader

_AI2D = ChoiceColumns(answers="place")
_BLINK = ChoiceColumns(
    image=("image_1", "image_2", "image_3", "image_4"),
    options="choices",
    id="idx",
    written="prompt",
    groups={"task": "sub_task"},
)
_MMSTAR = ChoiceColumns(
    options=("A", "B", "C", "D"),
    id="index",
    written="question",
    mark="{}:",
    letters="ABCD",
    groups={"category": "category", "axis": "l2_category"},
)
_VSTAR = ChoiceColumns(
    question="text",
    options=(),
    answer="label",
    id="question_id",
    written="text",
    groups={"category": "category"},
)
_BLINK_MEANS = {"official": ("task",), "plain": ()}
_MMSTAR_MEANS = {"official": (), "axes": ("axis",)}

CHOICE_SETS: Mapping[str, Benchmark] = {
    "ai2d": choice_benchmark(
        "ai2d", "questions about diagrams (AI2D)", files=released(), read_one=_AI2D
    ),
    "blink": replace(
        choice_benchmark(
            "blink",
            "14 tasks of perception, up to four images a question (BLINK)",
            files=("*/{split}-*-of-*.parquet", *released()),
            read_one=_BLINK,
        ),
        prompt=WRITTEN_PROMPT,
        variants=tuple(_BLINK_MEANS),
        grade=macro_grader(_BLINK_MEANS),
    ),
    "mmstar": replace(
        choice_benchmark(
            "mmstar",
            "questions that need their image, by ability (MMStar)",
            files=("mmstar.parquet", "MMStar.tsv", *released()),
            read_one=_MMSTAR,
        ),
        prompt=WRITTEN_PROMPT,
        variants=tuple(_MMSTAR_MEANS),
        grade=macro_grader(_MMSTAR_MEANS),
    ),
    "vstar": replace(
        choice_benchmark(
            "vstar",
            "small things in large images (V*)",
            files=(*placed("{split}_questions.jsonl"), *released()),
            read_one=_VSTAR,
        ),
        prompt="{written}",
    ),
}
