"""Flickr30k captions: Karpathy's test split of ``dataset_flickr30k.json``, 1,000 images.

The file has no ids but Karpathy's own, so the ``image_id`` of a result is ``imgid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.evaluation.benchmarks.captions import (
    PROMPT,
    central_caption,
    grade_captions,
    load_captions,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file
from manyeyes.evaluation.benchmarks.karpathy import read_karpathy
from manyeyes.inference.questions import Item

FILES = ("dataset_flickr30k.json", "annotations/dataset_flickr30k.json")


def locate(source: Source) -> list[Path]:
    """Karpathy's file."""
    return [find_file(source, FILES, "Flickr30k captions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image; ids are Karpathy's ``imgid``."""
    (path,) = expect_files(paths, "Karpathy's Flickr30k captions")
    return read_karpathy(path, prompt)


BENCHMARK = Benchmark(
    name="flickr30k-caption",
    description="image captions of Flickr30k (Karpathy's split), CIDEr-D, BLEU, ROUGE-L, METEOR",
    metric="CIDEr",
    variants=("official",),
    prompt=PROMPT,
    answer="caption",
    files=FILES,
    result_format='[{"image_id": imgid, "caption": "..."}]',
    locate=locate,
    read=read,
    grade=grade_captions,
    constant=central_caption,
    load=load_captions,
)
