"""``manyeyes new``: a recipe of your own to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import CommonOptions
from manyeyes.cli.own_data import ImagesFolder, Size, TrainFiles, recipe_names_for, sized

EXAMPLES = (
    "manyeyes new mine --from comm/small --train my.json --images pictures",
    "manyeyes new mine.yaml --from comm",
)


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the recipe. It is written to NAME.yaml.")
    ],
    parent: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="RECIPE",
            help="The recipe or method that it extends.",
            autocompletion=recipe_names_for,
        ),
    ],
    train: TrainFiles = None,
    images: ImagesFolder = None,
    size: Size = None,
    *,
    common: CommonOptions,
) -> None:
    """Write a recipe that extends another one, on your own rows if --train names them.

    Every stage is written out with its data and steps, so that there is something to change. A
    stage makes the steps of the parent, but at most ten passes over your rows.
    """
    with common.session() as output:
        recipe = sized(output, parent, size)
        from manyeyes.training.own.new_recipe import write_recipe

        quiet_libraries(debug=common.debug)
        path = (
            Path(name).with_suffix(".yaml") if not name.endswith((".yaml", ".yml")) else Path(name)
        )
        rows = write_recipe(path, recipe, train or [], images)
        said = f" on {rows} rows of your own" if train else ""
        output.line(f"{path}: extends {recipe}{said}")
        output.line(
            f"next: manyeyes check {path}, then manyeyes train {path} --out runs/{path.stem}"
        )
        output.result({"recipe": path, "extends": recipe, "rows": rows})
