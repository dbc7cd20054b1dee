"""The benchmarks by name. To add one: a file with a ``BENCHMARK``, and a line in the table.

Other packages add theirs by an entry point of the group ``manyeyes.benchmarks``.

Benchmarks that differ in little but their files are rows of a table of their own (``..._sets``).
"""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.errors import UsageError, nearest
from manyeyes.evaluation.benchmarks import (
    aokvqa,
    boxes,
    conversations,
    counting,
    cv_bench,
    flickr30k_entities,
    gqa,
    hallusion_bench,
    iconqa,
    identification,
    mmbench,
    mme,
    mmmu,
    mmvp,
    naturalbench,
    ocrbench,
    okvqa,
    pointqa,
    pope,
    question_answer,
    realworldqa,
    reg,
    scienceqa,
    seed_bench,
    visdial,
    visual7w,
    vsr,
)
from manyeyes.evaluation.benchmarks.caption_sets import CAPTION_SETS
from manyeyes.evaluation.benchmarks.choice_sets import CHOICE_SETS
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.count_sets import COUNT_SETS
from manyeyes.evaluation.benchmarks.detection_sets import DETECTION_SETS
from manyeyes.evaluation.benchmarks.hr_bench import HR_SETS
from manyeyes.evaluation.benchmarks.reading_sets import READING_SETS
from manyeyes.evaluation.benchmarks.rec_sets import REC_SETS
from manyeyes.evaluation.benchmarks.vqa_sets import VQA_SETS
from manyeyes.options import names_with_plugins

_ALONE: Mapping[str, Benchmark] = {
    "aokvqa": aokvqa.BENCHMARK,
    "boxes": boxes.BENCHMARK,
    "conversations": conversations.BENCHMARK,
    "counting": counting.BENCHMARK,
    "cv-bench": cv_bench.BENCHMARK,
    "flickr30k-entities": flickr30k_entities.BENCHMARK,
    "gqa": gqa.BENCHMARK,
    "hallusion-bench": hallusion_bench.BENCHMARK,
    "iconqa": iconqa.BENCHMARK,
    "identification": identification.BENCHMARK,
    "mmbench": mmbench.BENCHMARK,
    "mme": mme.BENCHMARK,
    "mmmu": mmmu.BENCHMARK,
    "mmvp": mmvp.BENCHMARK,
    "naturalbench": naturalbench.BENCHMARK,
    "ocrbench": ocrbench.BENCHMARK,
    "okvqa": okvqa.BENCHMARK,
    "pointqa": pointqa.BENCHMARK,
    "pope": pope.BENCHMARK,
    "question_answer": question_answer.BENCHMARK,
    "realworldqa": realworldqa.BENCHMARK,
    "reg": reg.BENCHMARK,
    "scienceqa": scienceqa.BENCHMARK,
    "seed-bench": seed_bench.BENCHMARK,
    "visdial": visdial.BENCHMARK,
    "visual7w": visual7w.BENCHMARK,
    "vsr": vsr.BENCHMARK,
}

# what has no file of its own is a row of one of these: vqa stands in vqa_sets, rec in rec_sets
_TABLES = (
    *(_ALONE, CAPTION_SETS, CHOICE_SETS, COUNT_SETS, DETECTION_SETS, HR_SETS),
    *(READING_SETS, REC_SETS, VQA_SETS),
)
_ALL = {name: benchmark for table in _TABLES for name, benchmark in table.items()}
BENCHMARKS: dict[str, Benchmark] = {name: _ALL[name] for name in sorted(_ALL)}


def get_benchmark(name: str) -> Benchmark:
    """Look a benchmark up; UsageError with the nearest known name if there is none."""
    names = names_with_plugins(
        BENCHMARKS, "manyeyes.benchmarks", name, lambda member: isinstance(member, Benchmark)
    )
    if name not in BENCHMARKS:
        known = ", ".join(names)
        raise UsageError(f"unknown benchmark {name!r}{nearest(name, names)}; known: {known}")
    return BENCHMARKS[name]


__all__ = ["BENCHMARKS", "Benchmark", "get_benchmark"]
