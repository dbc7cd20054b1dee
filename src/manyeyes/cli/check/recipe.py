"""The recipe half of ``manyeyes check``: tables of parameters, memory and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from manyeyes.study.costs.fit import ASSUMPTION as GPU_ASSUMPTION
from manyeyes.study.costs.fit import Fit, fit
from manyeyes.study.costs.gpus import Gpu
from manyeyes.study.costs.recipe import Inspection, inspect_recipe
from manyeyes.study.costs.stage import ASSUMPTIONS, HERE


@dataclass(frozen=True)
class Place:
    """Where a recipe is to train: on how many GPUs, and of which kind."""

    gpu: Gpu | None = None
    gpus: int = 1


def check_recipe(
    output: Output, target: str, settings: Sequence[str], data: Path | None, place: Place
) -> dict[str, Any]:
    """Inspect a recipe and, with ``data``, its data files there; return the JSON report."""
    recipe = load_recipe(target, settings)
    inspection = inspect_recipe(recipe, gpus=place.gpus)
    fits = {} if place.gpu is None else _fits(inspection, place.gpu, place.gpus)
    _show(output, inspection, fits)
    report = {"target": target, "kind": "recipe", "ok": True, **inspection.to_json()}
    if fits:
        report["gpu"] = {name: asdict(found) for name, found in fits.items()}
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


def _fits(inspection: Inspection, gpu: Gpu, gpus: int) -> dict[str, Fit]:
    """How every stage fits."""
    return {stage.name: fit(stage, gpu, gpus) for stage in inspection.stages}


def _show(output: Output, inspection: Inspection, fits: Mapping[str, Fit]) -> None:
    sizes = ", ".join(f"{name} {h}x{w}" for name, (h, w) in inspection.image_sizes.items())
    output.line(f"{inspection.recipe}: {inspection.description}")
    most = "at most " if inspection.tiles else ""
    output.line(f"{most}{inspection.visual_tokens} visual tokens per image (pixels: {sizes})")
    if inspection.tiles:
        seeing, rest = ", ".join(inspection.tiled), "the others see the whole picture"
        output.line(f"up to {inspection.tiles} tiles per image for {seeing}; {rest}")
    output.show(_parts_table(inspection), _memory_table(inspection), _steps_table(inspection))
    if fits:
        output.show(_fits_table(fits))
    output.line("Memory and time are estimates:")
    for assumption in (*ASSUMPTIONS, HERE, *([GPU_ASSUMPTION] if fits else [])):
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
        (stage.name, way, memory)
        for stage in inspection.stages
        for way, memory in (stage.ways or stage.memory).items()
    ]
    for stage, way, _ in columns:
        table.add_column(f"{stage}\n{way}", justify="right")
    for kind in ("weights", "gradients", "optimizer", "gathered", "activations", "total"):
        sizes = [getattr(memory, kind) for _, _, memory in columns]
        if kind != "gathered" or any(sizes):
            table.add_row(kind, *map(_size, sizes))
    table.caption = "total: the highest moment, at which not all of these are there"
    return table


def _fits_table(fits: Mapping[str, Fit]) -> Table:
    one = next(iter(fits.values()))
    many = f"{one.gpus} x " if one.gpus > 1 else ""
    title = f"{many}{one.gpu}, {one.memory / 1e9:.0f} GB each"
    table = Table("stage", title=title, title_justify="left")
    for way in one.spare:
        table.add_column(way, justify="right")
    table.add_column("time per step", justify="right")
    for stage, found in fits.items():
        spare = [_spare(left) for left in found.spare.values()]
        table.add_row(stage, *spare, f">= {_duration(found.seconds)}")
    return table


def _spare(left: int) -> str:
    if left < 0:
        return f"does not fit: {_size(-left)} too much"
    return f"fits, {_size(left)} to spare"


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
