"""NoCaps (Agrawal et al. 2019): captions by domain, with objects that COCO's captions lack.

COCO captions layout; every image has a ``domain``: in-domain, near-domain or out-domain. Overall
CIDEr uses the document frequencies of all scored images, CIDEr of a domain those of the domain's
images alone, as when the domain is scored separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import one_of
from manyeyes.evaluation.benchmarks.captions import (
    PROMPT,
    RESULT_FORMAT,
    central_caption,
    grade_captions,
    load_captions,
    read_coco_captions,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, list_rows
from manyeyes.inference.questions import Item

DOMAINS = ("in-domain", "near-domain", "out-domain")
FILES = (
    "nocaps_{split}_4500_captions.json",
    "annotations/nocaps_{split}_4500_captions.json",
    "nocaps_{split}.json",
    "annotations/nocaps_{split}.json",
)


def locate(source: Source) -> list[Path]:
    """The split's captions file."""
    return [find_file(source, FILES, "NoCaps captions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image with captions, in the group of its domain."""
    (path,) = expect_files(paths, "NoCaps captions")
    domains = {
        str(row.identity("id")): {"domain": one_of(row, "domain", DOMAINS)}
        for row in list_rows(open_document(path), "images")
    }
    return read_coco_captions(path, prompt, domains)


BENCHMARK = Benchmark(
    name="nocaps",
    description="image captions by domain (NoCaps), CIDEr-D, BLEU, ROUGE-L, METEOR",
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
