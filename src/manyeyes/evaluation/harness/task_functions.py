"""What the task files of `local_tasks` call: a document to question and picture, answers to scores.

A document is a row of the parquet file; the benchmark's own grader scores the answers, so a score
here equals that of ``manyeyes score`` on the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from manyeyes.evaluation.asking.choice_modes import cut_answer
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.contract import Benchmark, Grade
from manyeyes.evaluation.harness import item_json

PARSE_FAILURES = "parse_failures"
"""Reported beside the benchmark's metrics."""

Document = Mapping[str, Any]


def doc_to_visual(document: Document) -> list[Any]:
    """The picture of a document."""
    return [document["image"].convert("RGB")]


def process_results(document: Document, results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One entry per metric for the aggregation, with the item's own value where there is one.

    lmms-eval takes its standard errors from ``score`` and ``cluster``.
    """
    item = item_json.from_text(document["item"])
    row = json.dumps(
        [document["benchmark"], document["variant"], document["box_style"], document["item"]]
    )
    answer = cut_answer(results[0], item.answer)
    scores = {score.metric: score for score in _grade(((row, answer),)).scores}
    entries: dict[str, dict[str, Any]] = {}
    for metric in json.loads(document["metrics"]):
        entry = {"metric": metric, "row": row, "answer": answer, "cluster": item.cluster}
        if metric in scores and item.id in scores[metric].per_item:
            entry["score"] = scores[metric].per_item[item.id]
        entries[metric] = entry
    return entries


def aggregate(entries: Sequence[Mapping[str, Any]]) -> float:
    """The value of one metric over all documents."""
    grade = _grade(tuple((entry["row"], entry["answer"]) for entry in entries))
    metric = entries[0]["metric"]
    if metric == PARSE_FAILURES:
        return float(grade.parse_failures)
    return next(score.value for score in grade.scores if score.metric == metric)


def metric_names(grade: Grade) -> list[str]:
    """The metrics that a task reports for a grade, the headline first."""
    return [*(score.metric for score in grade.scores), PARSE_FAILURES]


@lru_cache(maxsize=4)
def _grade(answered: tuple[tuple[str, str], ...]) -> Grade:
    """The grade of (row, answer) pairs; all metrics of a task ask for the same one."""
    rows = [json.loads(row) for row, _ in answered]
    name, variant, box_style, _ = rows[0]
    benchmark: Benchmark = get_benchmark(name)
    items = [item_json.from_text(row[3]) for row in rows]
    predictions = {item.id: answer for item, (_, answer) in zip(items, answered, strict=True)}
    return benchmark.grade(
        benchmark.answers(items, predictions, variant=variant, box_style=box_style)
    )
