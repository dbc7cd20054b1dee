"""Files of benchmarks with choices, written by tests, and their scores."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from manyeyes.evaluation.benchmarks import BENCHMARKS
from manyeyes.evaluation.contract import BenchmarkResult
from manyeyes.inference.questions import Item

COLUMNS = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category"]
QUESTIONS = [
    [1, "What is it?", "Look\nclosely", "cube", "cone", "ball", "", "A", "shape", "FP-S"],
    [2, "Which colour?", "", "red", "green", "", "", "B", "colour", "FP-S"],
    [3, 'Is "it" left?', "", "yes", "no", "both", "none", "D", "place", "CP"],
]


def picture() -> str:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> str:
    """As pandas writes it: cells with line ends or quotes in quotes."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow([*columns, "image"])
    writer.writerows([[*row, picture() if place == 0 else 1] for place, row in enumerate(rows)])
    return stream.getvalue()


def mmbench(folder: Path) -> Path:
    return write(folder / "MMBench_dev.tsv", table(QUESTIONS))


def right(items: Sequence[Item]) -> dict[str, str]:
    return {item.id: item.references[0] for item in items}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def score(
    name: str, paths: Sequence[Path], results: Any, folder: Path, **how: Any
) -> BenchmarkResult:
    benchmark = BENCHMARKS[name]
    items = benchmark.read_files(paths, split=how.pop("split", None))
    file = "results.json" if not isinstance(results, str) else "results.tsv"
    return benchmark.score(items, benchmark.load(write(folder / file, results)), **how)
