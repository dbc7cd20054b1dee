"""Image captions in COCO's layout: CIDEr-D, BLEU-1..4, ROUGE-L; for a world's own files.

The published sets are `coco-caption`, `flickr30k-caption`, `nocaps` and `textcaps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.evaluation.benchmarks.captions import (
    PROMPT,
    RESULT_FORMAT,
    central_caption,
    grade_without_meteor,
    load_captions,
    read_coco_captions,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file
from manyeyes.inference.questions import Item

FILES = ("annotations/captions_{split}.json", "captions_{split}.json")


def locate(source: Source) -> list[Path]:
    """The split's captions file."""
    return [find_file(source, FILES, "COCO captions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image with captions; its references are all of them."""
    (path,) = expect_files(paths, "COCO captions")
    return read_coco_captions(path, prompt)


BENCHMARK = Benchmark(
    name="caption",
    description="image captions, CIDEr-D, BLEU, ROUGE-L (COCO captions file)",
    metric="CIDEr",
    variants=("official",),
    prompt=PROMPT,
    answer="caption",
    files=FILES,
    result_format=RESULT_FORMAT,
    locate=locate,
    read=read,
    grade=grade_without_meteor,
    constant=central_caption,
    load=load_captions,
)
