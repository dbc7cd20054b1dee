"""Benchmarks on local data as tasks of lmms-eval: a YAML file and a parquet file with images each.

OUT/manyeyes_vqa/manyeyes_vqa.yaml      lmms-eval eval --include_path OUT --tasks manyeyes_vqa
OUT/manyeyes_vqa/test.parquet
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from manyeyes.conversation.rendering import write_boxes
from manyeyes.errors import UsageError
from manyeyes.evaluation.benchmarks import get_benchmark
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.harness import item_json
from manyeyes.evaluation.harness.task_functions import PARSE_FAILURES, metric_names
from manyeyes.files import write_text, written_file
from manyeyes.images.reading import image_size
from manyeyes.inference.predictor import MAX_NEW_TOKENS
from manyeyes.inference.questions import Item
from manyeyes.records import PackedImage, Turn

LOWER_IS_BETTER = ("distribution", "mae", PARSE_FAILURES)
_FUNCTIONS = "manyeyes.evaluation.harness.task_functions"


def write_task(
    name: str,
    data_dir: str | Path,
    split: str,
    out_dir: str | Path,
    *,
    variant: str | None = None,
    box_style: str = "shikra",
    limit: int | None = None,
) -> str:
    """Write one benchmark as a task folder in ``out_dir``; return the task's name.

    ``box_style`` is how the questions write boxes and the answers are read: the recipe's. The task
    of a variant other than the default has it in its name.

    Raises:
        UsageError: an unknown benchmark or variant, or ``datasets`` is not installed.
        DataError: missing or broken data. WriteError: the folder cannot be written.
    """
    benchmark = get_benchmark(name)
    chosen = benchmark.checked_variant(variant)
    items = [_sized(item) for item in benchmark.items(data_dir, split, limit=limit)]
    metrics = _metrics(benchmark, items, chosen, box_style)
    task = _task_name(benchmark, chosen)
    folder, file = Path(out_dir) / task, f"{split.replace('/', '-')}.parquet"
    marks = {"benchmark": name, "variant": chosen, "box_style": box_style}
    rows = [_row(item, {**marks, "metrics": json.dumps(metrics)}, box_style) for item in items]
    with written_file(folder / file) as aside:
        _write_parquet(rows, aside)
    template = resources.files(__package__).joinpath("task.yaml").read_text(encoding="utf-8")
    text = template.format(
        task=task,
        split=re.sub(r"\W", "_", split),
        file=file,
        max_new_tokens=max(MAX_NEW_TOKENS[item.answer] for item in items),
        metrics="\n".join(_metric_entry(metric) for metric in metrics),
        version=version("manyeyes"),
    )
    write_text(folder / f"{task}.yaml", text)
    return task


def _sized(item: Item) -> Item:
    """The item with the size of its image: a grader inside a harness cannot look at the file."""
    return item if item.size else replace(item, size=image_size(item.image))


def _metrics(
    benchmark: Benchmark, items: Sequence[Item], variant: str, box_style: str
) -> list[str]:
    """The metrics that the benchmark reports, found by grading no answers at all."""
    answers = benchmark.answers(items, {}, variant=variant, box_style=box_style, allow_missing=True)
    return metric_names(benchmark.grade(answers))


def _task_name(benchmark: Benchmark, variant: str) -> str:
    parts = ["manyeyes", benchmark.name]
    parts += [variant] if variant != benchmark.variants[0] else []
    return re.sub(r"\W", "_", "_".join(parts).replace("+", "_plus"))


def _row(item: Item, marks: Mapping[str, str], box_style: str) -> dict[str, Any]:
    assert item.size is not None, "sizes were read before"
    if item.more_images or item.before:
        raise UsageError(f"item {item.id!r}: task files hold one question about one image each")
    turn = Turn("user", item.prompt, item.boxes, points=item.points)
    return {
        "id": item.id,
        "image": {"bytes": _image_bytes(item.image), "path": Path(item.image).name},
        "question": write_boxes(turn, [item.size], box_style).text,
        "target": " | ".join(item.references),
        "cluster": item.cluster,
        "item": item_json.to_text(item),
        **marks,
    }


def _image_bytes(image: str) -> bytes:
    return image.read() if isinstance(image, PackedImage) else Path(image).read_bytes()


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        import datasets
        from datasets import Dataset, Features, Image, Value
    except ImportError as error:
        raise UsageError(
            "task files need the package datasets: pip install 'manyeyes[parquet]'"
        ) from error
    datasets.disable_progress_bars()
    kinds = {name: Image() if name == "image" else Value("string") for name in rows[0]}
    Dataset.from_list(list(map(dict, rows)), features=Features(kinds)).to_parquet(str(path))


def _metric_entry(name: str) -> str:
    better = "false" if name in LOWER_IS_BETTER else "true"
    return (
        f"  - metric: {json.dumps(name)}\n"
        f"    aggregation: !function {_FUNCTIONS}.aggregate\n"
        f"    higher_is_better: {better}"
    )
