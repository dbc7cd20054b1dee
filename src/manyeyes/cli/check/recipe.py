"""The recipe half of ``manyeyes check``: tables of parameters, memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from manyeyes.cli.check.data import opening, report_files
from manyeyes.cli.output import Output
from manyeyes.data.annotations.objects import check_object_file
from manyeyes.data.annotations.tags import check_tags_file
from manyeyes.data.files import FileReport, check_file
from manyeyes.data.opened_images import OpenImages
from manyeyes.errors import DataError
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.recipes.sources import LocatedSource, locate_source
from manyeyes.study.costs.recipe import Inspection, inspect_recipe
from manyeyes.study.costs.stage import ASSUMPTIONS


def check_recipe(
    output: Output, target: str, settings: Sequence[str], data: Path | None
) -> dict[str, Any]:
    """Inspect a recipe and, with ``data``, its data files there; return the JSON report."""
    recipe = load_recipe(target, settings)
    inspection = inspect_recipe(recipe)
    _show(output, inspection)
    report = {"target": target, "kind": "recipe", "ok": True, **inspection.to_json()}
    return report if data is None else report | _check_sources(output, recipe, data)


def _check_sources(output: Output, recipe: Recipe, data: Path) -> dict[str, Any]:
    same = {"weight": 1.0, "limit": None}  # what does not change how a file is read
    sources = [source.model_copy(update=same) for stage in recipe.stages for source in stage.data]
    files = []
    with opening(output) as open_images:
        for source in dict.fromkeys(sources):
            files += _check_source(locate_source(source, data), open_images)
    return report_files(output, files)


def _check_source(located: LocatedSource, open_images: OpenImages) -> list[FileReport]:
    """The data file of a source, and what lies beside it."""
    options = replace(located.options, check_images=True)
    report = check_file(
        located.path,
        format=located.format,
        options=options,
        exclusion=located.exclusion,
        open_images=open_images,
    )
    files = [report]
    if located.objects is not None and located.objects.path is not None:
        files.append(check_object_file(located.objects.path, located.options.image_root))
    if located.tags is not None and located.tags.file is not None:
        files.append(_check_tags(located, located.tags.file))
    return files


def _check_tags(located: LocatedSource, file: str) -> FileReport:
    """Whether a tags file can be read and has a line for every image of its source."""
    try:
        samples, _ = replace(located, limit=None).read()
    except DataError:
        samples = []  # said of the data file itself
    return check_tags_file(file, located.options.image_root, samples)


def _show(output: Output, inspection: Inspection) -> None:
    sizes = ", ".join(f"{name} {h}x{w}" for name, (h, w) in inspection.image_sizes.items())
    output.line(f"{inspection.recipe}: {inspection.description}")
    output.line(f"{inspection.visual_tokens} visual tokens per image (pixels: {sizes})")
    output.show(_parts_table(inspection), _memory_table(inspection), _steps_table(inspection))
    output.line("Memory and time are estimates:")
    for assumption in ASSUMPTIONS:
        output.line(f"  - {assumption}")


def _parts_table(inspection: Inspection) -> Table:
    table = Table("part", title="parameters", title_justify="left")
    stages = [stage.name for stage in inspection.stages]
    for title in ("all", *(f"learn in {stage}" for stage in stages)):
        table.add_column(title, justify="right")
    for name, part in inspection.parts.items():
        learning = [f"{part.trainable_by_stage[stage]:,}" for stage in stages]
        table.add_row(f"[bold]{name}[/bold]", f"{part.total:,}", *learning)
        for module, size in part.modules.items():
            table.add_row(f"  {module}", f"{size:,}")
    sums = [f"{count:,}" for count in inspection.trainable_by_stage.values()]
    total = sum(part.total for part in inspection.parts.values())
    table.add_row("[bold]all[/bold]", f"{total:,}", *sums)
    return table


def _memory_table(inspection: Inspection) -> Table:
    table = Table("per process", title="memory", title_justify="left")
    columns = [
        (stage.name, dtype, memory)
        for stage in inspection.stages
        for dtype, memory in stage.memory.items()
    ]
    for stage, dtype, _ in columns:
        mark = " *" if dtype == inspection.dtype else ""
        table.add_column(f"{stage}\n{dtype}{mark}", justify="right")
    for kind in ("weights", "gradients", "optimizer", "activations", "total"):
        table.add_row(kind, *(_size(getattr(memory, kind)) for _, _, memory in columns))
    table.caption = "by dtype of the frozen parts; * the recipe's own"
    return table


def _steps_table(inspection: Inspection) -> Table:
    table = Table("per step", title="arithmetic", title_justify="left")
    for title in ("samples", "tokens each", "operations", "time", "steps"):
        table.add_column(title, justify="right")
    for stage in inspection.stages:
        table.add_row(
            stage.name,
            str(stage.samples_per_step),
            str(stage.tokens_per_sample),
            f"{stage.operations_per_step:.2e}",
            f">= {_duration(stage.seconds_per_step)} ({stage.compute_dtype})",
            "by epochs" if stage.steps is None else f"{stage.steps:,}",
        )
    return table


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
