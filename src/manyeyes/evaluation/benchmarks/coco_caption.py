"""COCO captions: Karpathy's test split (``dataset_coco.json``), or any COCO captions file.

Papers report Karpathy's test split, 5,000 images of val2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.files import detect_format
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.captions import (
    PROMPT,
    RESULT_FORMAT,
    central_caption,
    grade_captions,
    load_captions,
    read_coco_captions,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file
from manyeyes.evaluation.benchmarks.karpathy import read_karpathy
from manyeyes.inference.questions import Item

FILES = (
    "dataset_coco.json",
    "annotations/dataset_coco.json",
    "annotations/captions_{split}.json",
    "captions_{split}.json",
)


def locate(source: Source) -> list[Path]:
    """Karpathy's file, or the split's captions file."""
    return [find_file(source, FILES, "COCO captions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image; ids are COCO's."""
    (path,) = expect_files(paths, "Karpathy's or COCO's captions")
    kind = detect_format(path)
    if kind == "karpathy":
        return read_karpathy(path, prompt)
    if kind == "coco_captions":
        return read_coco_captions(path, prompt)
    raise DataError(f"expected Karpathy's or COCO's captions, found {kind}", file=str(path))


BENCHMARK = Benchmark(
    name="coco-caption",
    description="image captions of COCO (Karpathy's split), CIDEr-D, BLEU, ROUGE-L, METEOR",
    metric="CIDEr",
    variants=("official",),
    prompt=PROMPT,
    answer="caption",
    files=FILES,
    result_format=RESULT_FORMAT,
    locate=locate,
    read=read,
    grade=grade_captions,
    constant=central_caption,
    load=load_captions,
)
