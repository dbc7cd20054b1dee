"""Reading documents, infographics and charts: short answers by the rule of each benchmark.

DocVQA (Mathew et al. 2021) and InfographicVQA (Mathew et al. 2022) score by ANLS, ChartQA (Masry et
al. 2022) by relaxed accuracy; of ChartQA the questions of people and those made from summaries are
1,250 each in the test split, so that the mean over both is the mean over all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import placed, released
from manyeyes.evaluation.benchmarks.short_columns import (
    Rule,
    ShortColumns,
    short_benchmark,
    short_reader,
)
from manyeyes.evaluation.scorers.anls import ANLS_VARIANTS
from manyeyes.evaluation.scorers.numerals import chart_match, relaxed_match
from manyeyes.inference.questions import Item

_DOCUMENTS = ShortColumns(
    id="questionId", image=("image", "image_local_name"), listed="data", kind="long"
)
_CHARTS = ShortColumns(
    question=("query", "question"),
    answers=("label", "answer"),
    image=("image", "imgname"),
    groups={"set": ("type",)},
)
_ANLS: Mapping[str, Rule] = {
    name: lambda text, item, rule=rule: rule(text, item.references)  # type: ignore[misc]
    for name, rule in ANLS_VARIANTS.items()
}
_RELAXED: Mapping[str, Rule] = {
    "official": lambda text, item: chart_match(text, item.references[0]),
    "commas": lambda text, item: relaxed_match(text, item.references[0]),
}


def _read_charts(paths: Sequence[Path], prompt: str) -> list[Item]:
    """The release has a file of each set, ``test_human.json``, its images in ``png`` beside it."""
    items: list[Item] = []
    for path in paths:
        made = path.stem.rpartition("_")[2]
        for item in short_reader(_CHARTS)([path], prompt):
            if path.suffix == ".json":
                image = f"{path.parent.name}/png/{item.image}"
                item = replace(
                    item, id=f"{made}:{item.id}", image=image, cluster=image, groups={"set": made}
                )
            items.append(replace(item, groups={"set": item.groups["set"].removesuffix("_test")}))
    return items


READING_SETS: Mapping[str, Benchmark] = {
    "docvqa": short_benchmark(
        "docvqa",
        "questions about scanned documents, ANLS (DocVQA)",
        files=(*placed("{split}_v1.0_withQT.json", "{split}_v1.0.json"), *released("DocVQA")),
        columns=_DOCUMENTS,
        rules=_ANLS,
        metric="ANLS",
    ),
    "infovqa": short_benchmark(
        "infovqa",
        "questions about infographics, ANLS (InfographicVQA)",
        files=(
            *placed(
                "infographicsVQA_{split}_v1.0_withQT.json", "infographicsVQA_{split}_v1.0.json"
            ),
            *released("InfographicVQA"),
        ),
        columns=_DOCUMENTS,
        rules=_ANLS,
        metric="ANLS",
    ),
    "chartqa": short_benchmark(
        "chartqa",
        "questions about charts, relaxed accuracy (ChartQA)",
        files=("{split}/{split}_*.json", "{split}_*.json", *released()),
        columns=_CHARTS,
        rules=_RELAXED,
        read=_read_charts,
    ),
}
