"""Where the files of benchmarks can be had, and whether they are there whole.

Only what is told here is told: ids on huggingface.co and URLs change, licences are those of the
pages that they lead to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source

_COCO = "http://images.cocodataset.org/zips"
_GENOME = "https://cs.stanford.edu/people/rak248/VG_100K_2"
_UNC = "https://bvisionweb1.cs.unc.edu/licheng/referit/data"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Published:
    """The public source of a benchmark's files.

    ``hub``: id of a data set on huggingface.co, of which the files that ``only`` matches are
    needed. ``urls``: files to fetch by hand. ``questions``: those of ``split``, None = not known.
    ``md5``: name of a file -> its published hash. ``note``: what else must be done.
    """

    split: str
    hub: str | None = None
    only: tuple[str, ...] = ("*.parquet",)
    urls: tuple[str, ...] = ()
    questions: int | None = None
    md5: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Found:
    """What a folder holds of a split: annotation files with their sizes in bytes, and questions.

    ``wrong``: what is missing, broken or other than published, a sentence each.
    """

    files: Mapping[str, int]
    questions: int = 0
    wrong: tuple[str, ...] = ()


def look_at(
    benchmark: Benchmark, folder: Path, split: str, published: Published | None = None
) -> Found:
    """Read a split's files as an evaluation would, and compare them with what was published."""
    try:
        paths = benchmark.paths(Source(folder, split))
    except DataError as error:
        return Found({}, wrong=(str(error),))
    files = {str(path): path.stat().st_size for path in paths}
    hashes = {} if published is None else published.md5
    wrong = [
        f"{path}: its MD5 is not the published one; fetch it again"
        for path in paths
        if path.name in hashes and _md5(path) != hashes[path.name]
    ]
    try:
        questions = len(benchmark.items(folder, split))
    except DataError as error:
        return Found(files, wrong=(*wrong, str(error)))
    expected = published.questions if published is not None and published.split == split else None
    if expected not in (None, questions):
        wrong.append(f"{questions} questions; the release has {expected}")
    return Found(files, questions, tuple(wrong))


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


PUBLISHED: Mapping[str, Published] = {
    "ai2d": Published("test", "lmms-lab/ai2d", questions=3088),
    "blink": Published("val", "BLINK-Benchmark/BLINK", ("*/val-*.parquet",), questions=1901),
    "chartqa": Published("test", "lmms-lab/ChartQA", questions=2500),
    "countbenchqa": Published("test", "vikhyatk/CountBenchQA", questions=491),
    "cv-bench": Published("test", "nyu-visionx/CV-Bench", ("test*.parquet",), questions=2638),
    "docvqa": Published("validation", "lmms-lab/DocVQA", ("DocVQA/val*",), questions=5349),
    "gqa": Published(
        "testdev",
        urls=tuple(
            f"https://downloads.cs.stanford.edu/nlp/data/gqa/{name}.zip"
            for name in ("questions1.2", "images")
        ),
    ),
    "hallusion-bench": Published("image", "lmms-lab/HallusionBench", ("*image-*.parquet",)),
    "hr-bench-4k": Published(
        "test",
        "DreamMr/HR-Bench",
        ("hr_bench_4k.parquet",),
        questions=800,
        md5={"hr_bench_4k.tsv": "f6b041b03d49543494b8a56d2e35be65"},
    ),
    "hr-bench-8k": Published(
        "test",
        "DreamMr/HR-Bench",
        ("hr_bench_8k.parquet",),
        questions=800,
        md5={"hr_bench_8k.tsv": "274c9c7f89329b804a4723178a00219c"},
    ),
    "infovqa": Published("validation", "lmms-lab/DocVQA", ("InfographicVQA/val*",), questions=2801),
    "mmmu": Published("validation", "MMMU/MMMU", ("*/validation-*.parquet",), questions=900),
    "mmstar": Published("val", "Lin-Chen/MMStar", ("mmstar.parquet",), questions=1500),
    "mmvp": Published("train", "MMVP/MMVP", ("Questions.csv", "MMVP Images/*"), questions=300),
    "naturalbench": Published("train", "BaiqiL/NaturalBench", questions=7600),
    "ocrbench": Published("test", "echo840/OCRBench", questions=1000),
    "pixmo-count": Published(
        "test",
        "allenai/pixmo-count",
        ("data/test-*", "data/validation-*"),
        questions=540,
        note="The rows name images by URL and SHA-256; save each as images/SHA256.jpg.",
    ),
    "realworldqa": Published("test", "xai-org/RealworldQA", questions=765),
    "refcoco": Published(
        "val",
        urls=(f"{_UNC}/refcoco.zip", f"{_COCO}/train2014.zip"),
        note="The folders refcoco and train2014 lie side by side in DIR.",
    ),
    "scienceqa": Published("test", "lmms-lab/ScienceQA", ("ScienceQA-IMG/test-*",), questions=2017),
    "tallyqa": Published(
        "test",
        urls=(
            "https://github.com/manoja328/tallyqa/blob/master/tallyqa.zip?raw=true",
            f"{_GENOME}/images.zip",
            f"{_GENOME}/images2.zip",
            f"{_COCO}/train2014.zip",
            f"{_COCO}/val2014.zip",
        ),
    ),
    "textvqa": Published(
        "val",
        urls=(
            "https://dl.fbaipublicfiles.com/textvqa/data/TextVQA_0.5.1_val.json",
            "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip",
        ),
        questions=5000,
    ),
    "vizwiz": Published("val", "lmms-lab/VizWiz-VQA", ("data/val-*",), questions=4319),
    "vqav2": Published(
        "val2014",
        urls=(
            *(
                f"https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa/v2_{part}_Val_mscoco.zip"
                for part in ("Questions", "Annotations")
            ),
            f"{_COCO}/val2014.zip",
        ),
        questions=214354,
    ),
    "vstar": Published(
        "test",
        "craigwu/vstar_bench",
        ("test_questions.jsonl", "direct_attributes/*.jpg", "relative_position/*.jpg"),
        questions=191,
    ),
}
"""Benchmark -> its source. Numbers of questions are those of the releases."""
