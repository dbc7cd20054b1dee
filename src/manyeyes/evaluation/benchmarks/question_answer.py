"""Short answers of your own files, each scored by what its row says or its answer calls for.

The headline is the mean over all questions, as VQA accuracy is; ``metric`` breaks it down. A named
variant scores every answer by one metric instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores, mean_score
from manyeyes.evaluation.benchmarks.own_files import FILES, HOLDS, METRIC, reader
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.short_answers import SHORT_METRICS, short_score
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.evaluation.scorers.numerals import first_number
from manyeyes.evaluation.scorers.pope import parse_yes_no, pope_answers
from manyeyes.inference.questions import Item
from manyeyes.records import Score

AUTO = "auto"
_CORPUS = ("f1", "precision", "recall", "yes_ratio")


def grade(answers: Answers) -> Grade:
    """Mean score in 0..100; of yes/no questions also F1, precision, recall and the yes ratio."""
    metrics = [_metric(item, answers.variant) for item in answers.items]
    rows = list(zip(answers.items, answers.texts, metrics, strict=True))
    values = [
        0.0 if text is None else short_score(metric, text, item.references, item.meta["options"])
        for item, text, metric in rows
    ]
    headline = mean_score("accuracy", values, answers.items)
    corpus = _yes_no(rows)
    extra: list[Score] = []
    if corpus is not None:
        found = corpus_scores(corpus, [_ungrouped(item) for item in answers.items])
        extra = [replace(score, n=metrics.count("yes_no")) for score in found]
    failures = sum(text is not None and _unreadable(text, metric) for _, text, metric in rows)
    counts = Counter(metrics)
    note = "answers are scored by " + ", ".join(f"{name} ({n})" for name, n in counts.items())
    return Grade((headline, *extra), values, failures, (note,), corpus)


def _metric(item: Item, variant: str) -> str:
    return str(item.meta[METRIC]) if variant == AUTO else variant


def _unreadable(text: str, metric: str) -> bool:
    if metric == "number":
        return first_number(text) is None
    return metric == "yes_no" and parse_yes_no(text, "strict") is None


def _yes_no(rows: Sequence[tuple[Item, str | None, str]]) -> Corpus | None:
    """F1 and its parts over the yes/no questions; None where there are none."""
    places = [at for at, (_, _, metric) in enumerate(rows) if metric == "yes_no"]
    if not places:
        return None
    texts = [rows[at][1] for at in places]
    parsed = [None if text is None else parse_yes_no(text, "strict") for text in texts]
    labels = [parse_yes_no(rows[at][0].references[0], "strict") or "" for at in places]
    compared = pope_answers(parsed, labels)
    chosen = np.array(places)

    def values(weights: FloatArray) -> list[float]:
        metrics = compared.metrics(weights[chosen])
        return [100.0 * float(getattr(metrics, name)) for name in _CORPUS]

    return Corpus(_CORPUS, values)


def _ungrouped(item: Item) -> Item:
    """F1 over a group without yes/no questions would mean nothing."""
    return Item(item.id, item.image, item.prompt, item.references, item.cluster)


def _constant(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The most frequent answer of each metric's questions (ties: first in the alphabet)."""
    by_metric: dict[str, Counter[str]] = {}
    for item in counted:
        by_metric.setdefault(str(item.meta[METRIC]), Counter()).update(item.references)
    every = sum(by_metric.values(), Counter[str]())
    chosen = {metric: _first(counts) for metric, counts in by_metric.items()}
    return [chosen.get(str(item.meta[METRIC]), _first(every)) for item in items]


def _first(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))


BENCHMARK = Benchmark(
    name="question_answer",
    description="short answers of your own files, by each row's metric",
    variants=(AUTO, *SHORT_METRICS),
    files=FILES,
    result_format='JSON lines {"id": ..., "answer": "..."}',
    holds=HOLDS,
    read_one=reader("question_answer"),
    drawn=True,
    grade=grade,
    constant=_constant,
    load=text_loader("id", "answer"),
)
