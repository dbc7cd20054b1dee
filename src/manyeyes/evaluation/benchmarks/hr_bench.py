"""HR-Bench (Wang et al. 2024): large images, every question in four orders of its options.

Accuracy is the mean over the four orders (``cycle_category``) of the accuracy in each, by category
(``single``: one object, ``cross``: several). ``all_cycles`` (ours) is the share of questions that
are right in all four orders, as MMBench counts. Images are 4K or 8K pixels wide; the tables hold
them in base64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.evaluation.benchmarks.choices import ChoiceColumns, choice_benchmark, column_reader
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import released
from manyeyes.evaluation.benchmarks.wholes import all_right, macro_grader
from manyeyes.inference.questions import Item

_COLUMNS = ChoiceColumns(
    options=("A", "B", "C", "D"),
    id="index",
    groups={"category": "category", "cycle": "cycle_category"},
    meta={"asked": "question"},
)
_mean_over_cycles = macro_grader({"official": ("cycle",)})


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per row; the rows of a question are those with its text and options.

    Where several images have both in common, the first of each cycle belong together, the second of
    each, and so on.
    """
    seen: Counter[tuple[str, str]] = Counter()
    items = []
    for item in column_reader(_COLUMNS)(paths, prompt):
        asked = f"{item.meta['asked']} {sorted(item.candidates)}"
        seen[asked, item.groups["cycle"]] += 1
        unit = f"{asked} #{seen[asked, item.groups['cycle']]}"
        items.append(replace(item, cluster=unit, meta={**item.meta, "asked": unit}))
    return items


def grade(answers: Answers) -> Grade:
    """Accuracy over the orders, and the questions right in all of them, in 0..100."""
    mean = _mean_over_cycles(answers)
    right = [float(value or 0.0) for value in mean.per_item]
    strict, _ = all_right("all_cycles", right, answers.items, "asked")
    return replace(mean, scores=(*mean.scores, strict))


def _set(size: str) -> Benchmark:
    stem = f"hr_bench_{size}"
    benchmark = choice_benchmark(
        f"hr-bench-{size}",
        f"{size.upper()} images, every question in four orders of its options (HR-Bench)",
        files=(f"{stem}.tsv", f"{stem}.parquet", *released()),
        read=read,
    )
    return replace(benchmark, grade=grade, unit="asked")


HR_SETS: Mapping[str, Benchmark] = {f"hr-bench-{size}": _set(size) for size in ("4k", "8k")}
