"""Counts read from free answers: accuracy, MAE and RMSE; shared by the benchmarks of counting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores, mean_score
from manyeyes.evaluation.confidence.intervals import FloatArray

Reading = Callable[[str], float | None]
"""An answer -> the number that it says, None where it says none."""


def count_grader(
    readings: Mapping[str, Reading], *, within_one: bool = False
) -> Callable[[Answers], Grade]:
    """A grader: accuracy in 0..100, MAE and RMSE in objects, by variant; a number not said is 0.

    ``within_one``: also the share in 0..100 of answers that are off by one at most.
    """

    def grade(answers: Answers) -> Grade:
        items, read = answers.items, readings[answers.variant]
        counted = [None if text is None else read(text) for text in answers.texts]
        wanted = [int(item.references[0]) for item in items]
        right = [float(said == count) for said, count in zip(counted, wanted, strict=True)]
        errors = [(said or 0) - count for said, count in zip(counted, wanted, strict=True)]
        near = [
            float(said is not None and abs(error) <= 1)
            for said, error in zip(counted, errors, strict=True)
        ]
        squares = np.array(errors, dtype=np.float64) ** 2

        def rmse(weights: FloatArray) -> list[float]:
            return [math.sqrt(float(weights @ squares / weights.sum()))]

        corpus = Corpus(("RMSE",), rmse)
        scores = (
            mean_score("accuracy", right, items),
            *([mean_score("within_one", near, items)] if within_one else []),
            mean_score("MAE", [float(abs(error)) for error in errors], items, scale=1.0),
            *corpus_scores(corpus, items),
        )
        failures = counted.count(None) - sum(text is None for text in answers.texts)
        return Grade(scores, right, failures, corpus=corpus)

    return grade
