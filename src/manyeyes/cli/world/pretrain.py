"""``manyeyes world pretrain``: train the world's tiny parts anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import CommonOptions
from manyeyes.cli.parsing import resume_command

EXAMPLES = (
    "manyeyes world pretrain --part clip --part dinov2 --out parts",
    "manyeyes world pretrain --part mae --out parts --minutes 5 --resume",
    "manyeyes world pretrain --part language --start parts/language --out better",
)


def pretrain(
    context: typer.Context,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Part to train; default: all. May be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the parts go.")] = Path("parts"),
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="Time per part; by default the part's own."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps per part, instead of minutes.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of scenes and weights.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Trained part to start from: for a language model an earlier one (tokens are "
            "matched by their text), for dinov2 a masked autoencoder.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs in --out where they stopped.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Train the parts that ship with the package, from pictures rendered on the fly.

    Each part becomes an ordinary Hugging Face folder with a card of what it can do. A recipe uses
    it by that folder's path.
    """
    with common.session(resume=resume_command(context)) as output:
        from manyeyes.world.pretrain.run import RECIPES, find_recipe
        from manyeyes.world.pretrain.run import pretrain as run

        quiet_libraries(debug=common.debug)
        cards = {}
        for name in (names := part or list(RECIPES)):
            find_recipe(name)
        for name in names:
            with output.status(name) as report:
                cards[name] = run(
                    name,
                    out,
                    seconds=None if minutes is None or steps else 60.0 * minutes,
                    steps=steps,
                    seed=seed,
                    threads=threads,
                    resume=resume and (out / f"{name}.run").is_dir(),
                    progress=report,
                    start=start,
                )
            output.line(f"{out / name}: {cards[name].training['steps']} steps")
        output.result({"out": out, "parts": cards})
