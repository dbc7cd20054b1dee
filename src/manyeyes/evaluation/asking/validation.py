"""Scores of a model that is being trained: each benchmark's own metric, and nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.inference.predictor import ModelPredictor


def scores(
    model: Any,
    processor: Any,
    benchmarks: Sequence[str],
    data_dir: Path,
    split: str,
    out_dir: Path,
    *,
    limit: int | None = None,
) -> dict[str, float]:
    """Return benchmark → score of ``model`` as it is; its answers are written to ``out_dir``.

    Raises:
        UsageError: an unknown benchmark. DataError: missing or broken data files.
    """
    predictor = ModelPredictor(model, processor)
    found = evaluate(predictor, benchmarks, data_dir, split, out_dir, limit=limit, text_only=False)[
        "benchmarks"
    ]
    return {name: float(e["model"]["metrics"][e["metric"]]) for name, e in found.items()}
