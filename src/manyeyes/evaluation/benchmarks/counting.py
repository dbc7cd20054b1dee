"""Object counting of GVTBench (Wang et al. 2023): "How many X are there in the image?".

Accuracy, MAE and RMSE under GVT's reading of numbers, or a strict one (`scorers.counting`). Answers
without a number count as 0 in MAE and RMSE. On COCO's file the constant answer "1" is right in
54.27 %, more than the figures that papers report; a note gives its accuracy beside every score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.count_grades import count_grader
from manyeyes.evaluation.benchmarks.gvt import constant_note, gvt_benchmark, read_gvt
from manyeyes.evaluation.scorers.counting import COUNT_VARIANTS
from manyeyes.inference.questions import Item

_counted = count_grader(COUNT_VARIANTS)
_BIN = 3
"""GVT breaks its figures down by 0-2, 3-5, 6-8, ... objects."""


def read(path: Path, prompt: str) -> list[Item]:
    """One item per row; answers must be whole numbers."""
    return read_gvt(path, prompt, _groups)


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, MAE and RMSE in objects, by counted and by present objects."""
    return replace(_counted(answers), notes=(constant_note(answers.items),))


def _groups(row: Row, answer: str) -> Mapping[str, str]:
    if not answer.strip().isdecimal():
        raise row.error("text_out", f"expected a whole number, got {answer!r}")
    low = int(answer) // _BIN * _BIN
    return {"count": f"{low}-{low + _BIN - 1}"}


BENCHMARK = gvt_benchmark(
    "counting",
    "counting objects (GVTBench OC), accuracy, MAE, RMSE",
    "oc",
    read,
    grade,
    COUNT_VARIANTS,
)
