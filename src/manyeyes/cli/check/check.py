"""``manyeyes check``: what a recipe builds and costs, what is wrong with data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import DataOption, FolderOptions, SetOption

EXAMPLES = (
    "manyeyes check comm/paper",
    "manyeyes check comm/paper-lora --gpu 4090",
    "manyeyes check comm/paper --gpu h100 --gpus 8",
    "manyeyes check comm/world --set model.fusion.mlp_blocks=2 --json",
    "manyeyes check data/llava/train.json --image-root data/images",
)
RECIPE_SUFFIXES = (".yaml", ".yml")


def check(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE_OR_DATA...", help="Recipe names, recipe files, data files or folders."
        ),
    ],
    settings: SetOption = None,
    data: DataOption = None,
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that image paths in data files start from."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="GPU",
            help="Whether a recipe fits, and how fast it is at best: "
            "h100, h200, a100-80, a100-40, l4 or 4090.",
        ),
    ] = None,
    gpus: Annotated[
        int, typer.Option(metavar="N", min=1, help="GPUs that train together; memory is of each.")
    ] = 1,
    *,
    common: FolderOptions,
) -> None:
    """Validate recipes and data files before anything runs.

    A recipe is built without memory or weights: parameters that are frozen and that learn, visual
    tokens, memory and time per step; with --gpu, whether it fits that GPU. With --data its data
    files are checked as well. Of a data file every picture is opened, and every broken row is
    listed with file, line, key and what was expected.
    """
    with common.session() as output:
        from manyeyes.cli.check.data import check_data
        from manyeyes.cli.check.recipe import Place, check_recipe
        from manyeyes.study.costs.gpus import get_gpu

        quiet_libraries(debug=common.debug)
        place = Place(None if gpu is None else get_gpu(gpu), gpus)
        reports = []
        for target in targets:
            if _is_recipe(target):
                reports.append(check_recipe(output, target, settings or [], data, place))
            else:
                reports.append(check_data(output, Path(target), image_root))
        good = all(report["ok"] for report in reports)
        output.result(reports[0] if len(reports) == 1 else {"ok": good, "targets": reports})
    if not good:
        raise typer.Exit(1)


def _is_recipe(target: str) -> bool:
    """Whether a word is a YAML file, or a name that no file has; anything else is data."""
    path = Path(target)
    if path.suffix in RECIPE_SUFFIXES:
        return True
    return not path.exists() and path.suffix == ""
