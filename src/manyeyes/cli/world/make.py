"""``manyeyes world make``: the built-in world's pictures and public-format files."""

from __future__ import annotations

from typing import Annotated

import typer

from manyeyes.cli.options import AGAIN, CommonOptions, NewFolderOption

EXAMPLES = (
    "manyeyes world make --out data --images 1000 --seed 0",
    "manyeyes world make --out corner --images 200 --seed 1 --split corner",
    "manyeyes world make --out bench --images 500 --formats all --formats parquet",
)


def make(
    out: NewFolderOption,
    images: Annotated[
        int, typer.Option(min=1, help="Images in all; four fifths of them for training.")
    ],
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same files.")
    ] = 0,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this split. May be repeated."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="training, standard (the default), all, or a format. May be repeated.",
        ),
    ] = None,
    *,
    common: CommonOptions,
) -> None:
    """Make scenes with exact ground truth, in the formats of the public data sets.

    Annotations of nearly every format are written. --formats training leaves out what recipes do
    not train on; --formats all adds what brings pictures of its own; parquet must be named.
    """
    with common.session(resume=AGAIN) as output:
        from manyeyes.world.make import make_world
        from manyeyes.world.splits import SPLITS

        with output.progress() as report:
            made = make_world(
                out,
                images=images,
                seed=seed,
                splits=split or tuple(SPLITS),
                formats=formats or ("standard",),
                progress=report,
            )
        counts = ", ".join(f"{name} {count}" for name, count in made.images.items())
        verb = "made" if made.made else "already there"
        output.line(f"{made.folder}: {verb}; images: {counts}; {made.files} files")
        output.result({**vars(made), "seed": seed})
