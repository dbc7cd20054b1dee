"""OCRBench (Liu et al. 2023, v1): 1,000 questions about text, ten kinds of them.

An answer is right if one of the accepted texts is part of it, in any letter case; for formulas
(HME100k) letter case counts and blanks do not. ``score`` is the number of right answers, as papers
print it, of 1,000 in the whole benchmark; ``accuracy`` is their share.

official   the authors' script
lmms       besides, full-width letters and digits are those of half width (lmms-eval)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import placed, released
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores
from manyeyes.evaluation.benchmarks.short_columns import Rule, ShortColumns, short_benchmark
from manyeyes.inference.questions import Item

_FORMULAS = "HME100k"
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: ord(" ")}


def _holds(text: str, item: Item) -> float:
    tidy = _formula if item.meta["dataset"] == _FORMULAS else _words
    said = tidy(text)
    return float(any(tidy(reference) in said for reference in item.references))


def _holds_half_width(text: str, item: Item) -> float:
    if item.meta["dataset"] == _FORMULAS:
        return _holds(text, item)
    narrow = tuple(reference.translate(_HALF_WIDTH) for reference in item.references)
    return _holds(text.translate(_HALF_WIDTH), replace(item, references=narrow))


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


def _words(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


RULES: Mapping[str, Rule] = {"official": _holds, "lmms": _holds_half_width}
_PLAIN = short_benchmark(
    "ocrbench",
    "reading text in ten ways (OCRBench)",
    files=(*placed("OCRBench.json"), *released()),
    columns=ShortColumns(
        image=("image", "image_path"),
        groups={"question_type": ("question_type", "type")},
        meta={"dataset": ("dataset", "dataset_name")},
        kind="long",
    ),
    rules=RULES,
    prompt="{question}",
    answer_key="predict",
)


def grade(answers: Answers) -> Grade:
    """The share of right answers in 0..100, and their number."""
    plain = _PLAIN.grade(answers)
    right = np.array([value or 0.0 for value in plain.per_item])
    corpus = Corpus(("score",), lambda weights: [float(weights @ right)])
    scores = (*plain.scores, *corpus_scores(corpus, answers.items))
    return replace(plain, scores=scores, corpus=corpus)


BENCHMARK = replace(_PLAIN, grade=grade)
