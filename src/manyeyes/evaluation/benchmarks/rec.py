"""Referring expression comprehension over JSON lines with one box per expression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.readers.prompts import REC_PROMPT
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.benchmarks.grounding import (
    box_loader,
    constant_box,
    expression_items,
    grade_boxes,
)
from manyeyes.evaluation.scorers.rec import REC_VARIANTS
from manyeyes.inference.questions import Item

PROMPT = REC_PROMPT
FILES = ("annotations/refs_{split}.jsonl", "refs_{split}.jsonl")


def locate(source: Source) -> list[Path]:
    """The split's file of expressions."""
    return [find_file(source, FILES, "referring expressions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per expression; image sizes that are not written are read when they are needed."""
    (path,) = expect_files(paths, "referring expressions")
    return expression_items(load_samples(path, "refcoco"), prompt)


BENCHMARK = Benchmark(
    name="rec",
    description="box for a referring expression, right at IoU 0.5 (RefCOCO-style JSON lines)",
    metric="accuracy",
    variants=tuple(REC_VARIANTS),
    prompt=PROMPT,
    answer="boxes",
    files=FILES,
    result_format='JSON lines {"question_id": ..., "answer": "[x1,y1,x2,y2]"}',
    locate=locate,
    read=read,
    grade=grade_boxes,
    constant=constant_box,
    load=box_loader("question_id"),
)
