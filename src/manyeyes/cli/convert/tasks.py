"""``manyeyes convert tasks``: benchmarks on local data as tasks of lmms-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    BenchmarkDataOption,
    CommonOptions,
    LimitOption,
    SplitOption,
    VariantsOption,
)

EXAMPLES = (
    "manyeyes convert tasks vqa pope --data data --split test --out tasks",
    "manyeyes convert tasks rec --data data --split val --box-style int1000 --out tasks",
)


def tasks(
    benchmark: Annotated[list[str], typer.Argument(metavar="BENCHMARK...", help="vqa, pope, ...")],
    data: BenchmarkDataOption,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the tasks.")],
    split: SplitOption = "test",
    variant: VariantsOption = None,
    box_style: Annotated[
        str, typer.Option(help="How the model writes boxes: shikra, lion, int1000.")
    ] = "shikra",
    limit: LimitOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Write benchmarks as tasks of lmms-eval: a YAML file and a parquet file with images each.

    Run them offline with `lmms-eval eval --model manyeyes --model_args pretrained=MODEL
    --include_path OUT --tasks TASK`. Scores are those of `manyeyes score`.
    """
    with common.session() as output:
        from manyeyes.cli.evaluate import known_benchmarks, parse_variants
        from manyeyes.cli.score import known_box_style
        from manyeyes.evaluation.harness.local_tasks import write_task

        quiet_libraries(debug=common.debug)
        names = list(dict.fromkeys(known_benchmarks(benchmark)))
        variants = parse_variants(variant or [])
        style = known_box_style(box_style)
        written = {}
        for name in names:
            chosen = variants.get(name)
            task = write_task(name, data, split, out, variant=chosen, box_style=style, limit=limit)
            written[name] = task
            output.line(f"{name}: {out / task}")
        output.result({"out": out, "tasks": written})
