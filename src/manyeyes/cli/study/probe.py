"""``manyeyes probe``: what each level of each encoder knows, without or with a language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import AGAIN, DeviceOptions
from manyeyes.cli.output import Output
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.study.comparison.compare import Settings
    from manyeyes.study.probing.data import Labelled

EXAMPLES = (
    "manyeyes probe comm/world --data data --out probes",
    "manyeyes probe clip=world:clip mae=world:mae --data data --task mark --task box --out marks",
    "manyeyes probe runs/comm/model --data instances_train.json --held-out instances_val.json "
    "--images images --out mine",
    "manyeyes probe comm/world --with-llm --data data --budget steps=400 -b rec --out levels",
)
SCENES = ("scenes/train.json", "scenes/test.json")
"""Label files of a world's folder: to learn from, and to be measured on."""


@dataclass(frozen=True)
class LabelOptions:
    """Which pictures are read, and what is asked of them."""

    held_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels to measure on; without it 40 % of --data."),
    ] = None
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that image paths are relative to.")
    ] = None
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this task. May be repeated.")
    ] = None
    kind: Annotated[
        list[str] | None,
        typer.Option("--probe", metavar="NAME", help="linear or attention. May be repeated."),
    ] = None


@dataclass(frozen=True)
class SizeOptions:
    """How much is read and fitted."""

    limit: Annotated[
        int,
        typer.Option(
            min=2, help="At most so many pictures of each set, or questions with --with-llm."
        ),
    ] = 1500
    seeds: Annotated[int, typer.Option(min=1, help="Fits per figure.")] = 1
    grid: Annotated[
        int, typer.Option(min=1, help="Finer grids are averaged to so many patches a side.")
    ] = 16
    memory_gb: Annotated[
        float, typer.Option(min=0.1, help="RAM for features; decides how many levels at a time.")
    ] = 4.0


@dataclass(frozen=True)
class LevelOptions:
    """The study of levels with a language model."""

    with_llm: Annotated[
        bool, typer.Option("--with-llm", help="Train the recipe once per level, and ask it.")
    ] = False
    level: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="With --with-llm: only this level. May be repeated."),
    ] = None
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            metavar="NAME",
            help="With --with-llm: a benchmark to ask. May be repeated.",
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(metavar="UNIT=AMOUNT", help="With --with-llm: the budget, as for compare."),
    ] = None
    jobs: Annotated[
        int, typer.Option(min=1, help="With --with-llm: so many trainings at a time.")
    ] = 1


def probe(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Recipes, model folders or FAMILY=CHECKPOINT: their encoders."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(metavar="PATH", help="A world's folder, a COCO instances or a scene file."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for table, map and results.")],
    labels: LabelOptions,
    size: SizeOptions,
    levels: LevelOptions,
    common: DeviceOptions,
) -> None:
    """Probe every level of encoders: what is there, where, how many, which mark, what is in front.

    Linear and attention probes are trained on frozen features of one set of pictures and measured
    on another. Raw pixels, the same network with random weights, and two levels of one encoder side
    by side stand beside every encoder; a pair of encoders is judged against the latter.

    --with-llm asks what a level is worth to a language model instead (COMM): SOURCE is one recipe,
    and each level of its encoders becomes an arm of a study like that of `manyeyes compare`.
    """
    with common.session(resume=AGAIN if levels.with_llm else None) as output:
        quiet_libraries(debug=common.debug)
        if levels.with_llm:
            refuse_options("without", **vars(labels))
            probe_with_llm(output, sources, out, study_settings(data, size, levels), levels.level)
        else:
            refuse_options(
                "with", level=levels.level, benchmark=levels.benchmark, budget=levels.budget
            )
            probe_features(output, sources, data, out, labels, size, common.device)


def probe_features(
    output: Output,
    sources: list[str],
    data: Path,
    out: Path,
    labels: LabelOptions,
    size: SizeOptions,
    device: str,
) -> None:
    """Fit probes on frozen features, and tell and write what they read."""
    from manyeyes.model.loading import choose_device
    from manyeyes.study.probing.data import make_tasks
    from manyeyes.study.probing.features import Reading, open_eyes
    from manyeyes.study.probing.probe import probe_notes, run_probes, write_probes

    probes = known_probes(labels.kind or [])
    train, held = read_sets(data, labels.held_out, labels.images)
    eyes, geometry = open_eyes(sources)
    made = make_tasks(
        train[: size.limit], held[: size.limit], geometry=geometry, only=labels.task or ()
    )
    how = Reading(geometry, choose_device(device), grid=size.grid, memory_gb=size.memory_gb)
    with output.progress() as report:
        study = run_probes(eyes, made, how, probes=probes, seeds=size.seeds, told=report)
    write_probes(study, out)
    for note in probe_notes(study):
        output.line(note)
    output.line(f"table, heat map and results: {out}")
    output.result({**vars(study), "out": out})


def probe_with_llm(
    output: Output, sources: list[str], out: Path, settings: Settings, levels: list[int] | None
) -> None:
    """Run the study of one recipe's levels and print its tables."""
    from manyeyes.cli.study.tables import show_study
    from manyeyes.study.probing.level_sweep import HEATMAP_FILE, sweep_levels

    if len(sources) != 1:
        raise UsageError(f"--with-llm takes one recipe, got {', '.join(sources)}")
    with output.progress() as report:
        done = sweep_levels(
            sources[0], out, settings, levels or [], progress=report, note=output.note
        )
    output.note(f"{done.run} trials run, {done.kept} kept from before")
    output.line(f"levels: {out / HEATMAP_FILE}")
    show_study(output, out, done.summary)


def study_settings(data: Path, size: SizeOptions, levels: LevelOptions) -> Settings:
    """Return what the levels are compared on; raises ``UsageError`` for a budget that is none."""
    from manyeyes.study.comparison.compare import Settings
    from manyeyes.study.trials.budget import parse_budget

    return Settings(
        seeds=size.seeds,
        budget=parse_budget(levels.budget),
        data_dir=data,
        benchmarks=tuple(dict.fromkeys(levels.benchmark or [])),
        limit=size.limit,
        jobs=levels.jobs,
    )


def refuse_options(way: str, **options: object) -> None:
    """Raise ``UsageError`` for options that say something only ``way`` a language model."""
    for name, value in options.items():
        if value is not None:
            option = "probe" if name == "kind" else name.replace("_", "-")
            raise UsageError(f"--{option} goes {way} --with-llm")


def known_probes(names: list[str]) -> list[str]:
    """Return ``names``, or all probes for none; raises ``UsageError`` for an unknown one."""
    from manyeyes.probes.tasks import PROBES

    for name in names:
        if name not in PROBES:
            raise UsageError(f"unknown probe {name!r}; known: {', '.join(PROBES)}")
    return names or list(PROBES)


def read_sets(
    data: Path, held_out: Path | None, images: Path | None
) -> tuple[list[Labelled], list[Labelled]]:
    """Return the pictures to learn from and to be measured on; raises ``UsageError``."""
    from manyeyes.study.probing.data import read_labels, split

    if data.is_dir():
        files = [data / name for name in SCENES]
        if not all(file.is_file() for file in files):
            raise UsageError(f"{data} holds no {' and '.join(SCENES)}; name a label file instead")
        train, held = (read_labels(file, images) for file in files)
        return train, held
    if held_out is not None:
        return read_labels(data, images), read_labels(held_out, images)
    return split(read_labels(data, images))
