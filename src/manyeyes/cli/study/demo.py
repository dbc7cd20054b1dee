"""``manyeyes demo``: the whole line on the built-in world, in minutes, with no download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import AGAIN, CommonOptions, FromScratchOption, SetOption

if TYPE_CHECKING:
    from manyeyes.study.demonstration.demo import DemoSize

EXAMPLES = (
    "manyeyes demo --out demo",
    "manyeyes demo --out tiny --images 60 --limit 10 --set training.max_steps=5 --json",
)
TEST_SHARE = 1 / 6
"""Test pictures per training picture, as in the standard demo (250 for 1,500)."""


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything made.")] = Path(
        "demo"
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of pictures, questions and training.")
    ] = 0,
    images: Annotated[
        int | None, typer.Option(min=1, help="Training pictures, for a smaller or larger demo.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions per benchmark, for a smaller demo.")
    ] = None,
    from_scratch: FromScratchOption = False,
    settings: SetOption = None,
    *,
    common: CommonOptions,
) -> None:
    """Train CLIP, DINOv2 and COMM on the built-in world, score them, write a report with pictures.

    Leaves DIR/report.html and DIR/model, a model to chat with. A stopped demo continues when the
    same command is given again.
    """
    with common.session(resume=AGAIN) as output:
        from manyeyes.cli.study.tables import study_tables
        from manyeyes.study.demonstration.demo import run_demo

        quiet_libraries(debug=common.debug)
        with output.progress() as report:
            found = run_demo(
                out,
                seed=seed,
                size=replace(_size(images, limit, settings or []), from_scratch=from_scratch),
                progress=report,
            )
        said = found.printed
        output.line(said["verdict"])
        output.show(*study_tables(found.summary))
        output.line(f"report: {said['report']}")
        output.line(f"model:  {said['model']} (manyeyes chat {said['model']})")
        output.line(f"{said['seconds']} s, at most {said['peak_gib']} GiB")
        output.result(said)


def _size(images: int | None, limit: int | None, settings: list[str]) -> DemoSize:
    from manyeyes.study.demonstration.demo import SPLIT, DemoSize

    standard = DemoSize()
    counts = standard.images
    if images is not None:
        counts = {"train": images, SPLIT: max(1, round(images * TEST_SHARE))}
    limits = standard.limits if limit is None else dict.fromkeys(standard.limits, limit)
    return DemoSize(images=counts, limits=limits, settings=tuple(settings))
