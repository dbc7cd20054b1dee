"""Predictions against annotation files: a score without a model, and mostly without an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import manyeyes
from manyeyes.evaluation.answers.predictions import write_rows
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, place_images
from manyeyes.evaluation.contract import BenchmarkResult, Prediction
from manyeyes.files import file_sha256
from manyeyes.inference.questions import Item


@dataclass(frozen=True)
class Scoring:
    """How one set of predictions is scored.

    ``split`` chooses from files that hold several; ``images`` is a folder to find images in, for
    benchmarks whose files do not say how large an image is.
    """

    benchmark: str
    annotations: Sequence[str | Path]
    variant: str | None = None
    split: str | None = None
    box_style: str = "shikra"
    allow_missing: bool = False
    images: str | Path | None = None


@dataclass(frozen=True)
class Scored:
    """What was scored, and the result."""

    benchmark: Benchmark
    items: list[Item]
    predictions: dict[str, Prediction]
    result: BenchmarkResult


def score_file(plan: Scoring, predictions: str | Path) -> Scored:
    """Read annotation files and a predictions file, and score it.

    Raises:
        UsageError: an unknown benchmark or variant, a wrong number of annotation files.
        DataError: a file that is missing, broken, or not what the benchmark takes; predictions that
            are missing (unless allowed) or for unknown ids.
    """
    benchmark = get_benchmark(plan.benchmark)
    variant = benchmark.checked_variant(plan.variant)
    items = read_items(plan)
    found = benchmark.load(Path(predictions))
    result = benchmark.score(
        items,
        found,
        variant=variant,
        box_style=plan.box_style,
        allow_missing=plan.allow_missing,
    )
    return Scored(benchmark, items, found, result)


def read_items(plan: Scoring) -> list[Item]:
    """Return the questions of the annotation files; raises as `score_file`."""
    items = get_benchmark(plan.benchmark).read_files(plan.annotations, split=plan.split)
    if plan.images is None:
        return items
    return place_images(items, Source(Path(plan.images), plan.split or ""))


def describe_files(paths: Sequence[str | Path]) -> dict[str, Any]:
    """What a score must say about where it came from: our version, and the SHA-256 of the files."""
    files = [file for path in map(Path, paths) for file in _files_of(path)]
    return {
        "version": manyeyes.__version__,
        "files": {str(file): file_sha256(file) for file in files},
    }


def write_items(path: str | Path, scored: Scored) -> None:
    """Write JSON lines of id, prediction, references, score (None: not counted) and groups."""
    write_rows(Path(path), (_row(item, scored) for item in scored.items))


def _files_of(path: Path) -> list[Path]:
    """The file itself, or the files of a folder."""
    return sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]


def _row(item: Item, scored: Scored) -> Mapping[str, Any]:
    return {
        "id": item.id,
        "prediction": scored.predictions.get(item.id),
        "references": list(item.references),
        "score": scored.result.per_item.get(item.id),
        "groups": dict(item.groups),
    }


def describe_benchmark(benchmark: Benchmark) -> dict[str, Any]:
    """What one needs to know to score on a benchmark, as JSON data."""
    return {
        "description": benchmark.description,
        "files": list(benchmark.files),
        "result_format": benchmark.result_format,
        "metric": benchmark.metric,
        "variants": list(benchmark.variants),
        "prompt": benchmark.prompt,
    }
