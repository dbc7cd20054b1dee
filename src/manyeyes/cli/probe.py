"""``manyeyes probe``: what each level of each encoder knows, without a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import DebugOption, DeviceOption, JsonOption
from manyeyes.cli.output import session
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.study.probe_data import Labelled

EXAMPLES = (
    "manyeyes probe comm/world --data data --out probes",
    "manyeyes probe clip=world:clip mae=world:mae --data data --task mark --task box --out marks",
    "manyeyes probe runs/comm/model --data instances_train.json --held-out instances_val.json "
    "--images images --out mine",
)
SCENES = ("scenes/train.json", "scenes/test.json")
"""Label files of a world's folder: to learn from, and to be measured on."""


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
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels to measure on; without it 40 % of --data."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that image paths are relative to.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this task. May be repeated.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--probe", metavar="NAME", help="linear or attention. May be repeated."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=2, help="Most pictures of each of the two sets.")
    ] = 1500,
    seeds: Annotated[int, typer.Option(min=1, help="Fits per figure.")] = 1,
    grid: Annotated[
        int, typer.Option(min=1, help="Finer grids are averaged to so many patches a side.")
    ] = 16,
    memory_gb: Annotated[
        float, typer.Option(min=0.1, help="RAM for features; decides how many levels at a time.")
    ] = 4.0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Probe every level of encoders: what is there, where, how many, which mark, what is in front.

    Linear and attention probes are trained on frozen features of one set of pictures and measured
    on another. Raw pixels, the same network with random weights, and two levels of one encoder side
    by side stand beside every encoder; a pair of encoders is judged against the latter.
    """
    with session(as_json=as_json, debug=debug) as output:
        from manyeyes.serving.load import choose_device
        from manyeyes.study.probe import probe_notes, run_probes, write_probes
        from manyeyes.study.probe_data import make_tasks
        from manyeyes.study.probe_features import Reading, open_eyes

        quiet_libraries(debug=debug)
        probes = known_probes(kind or [])
        train, held = read_sets(data, held_out, images)
        eyes, geometry = open_eyes(sources)
        made = make_tasks(train[:limit], held[:limit], geometry=geometry, only=task or ())
        how = Reading(geometry, choose_device(device), grid=grid, memory_gb=memory_gb)
        with output.progress() as report:
            study = run_probes(eyes, made, how, probes=probes, seeds=seeds, told=report)
        write_probes(study, out)
        for note in probe_notes(study):
            output.line(note)
        output.line(f"table, heat map and results: {out}")
        output.result({**vars(study), "out": out})


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
    from manyeyes.study.probe_data import read_labels, split

    if data.is_dir():
        files = [data / name for name in SCENES]
        if not all(file.is_file() for file in files):
            raise UsageError(f"{data} holds no {' and '.join(SCENES)}; name a label file instead")
        train, held = (read_labels(file, images) for file in files)
        return train, held
    if held_out is not None:
        return read_labels(data, images), read_labels(held_out, images)
    return split(read_labels(data, images))
