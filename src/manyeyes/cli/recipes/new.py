"""``manyeyes new``: a recipe of your own to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import CommonOptions
from manyeyes.cli.own_data import OwnOptions, Size, recipe_names_for, sized

if TYPE_CHECKING:
    from manyeyes.data.own.folder import OwnData

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
    size: Size = None,
    *,
    own_files: OwnOptions,
    common: CommonOptions,
) -> None:
    """Write a recipe that extends another one, on your own rows if --train names them.

    Every stage is written out with its data and steps, so that there is something to change. A
    stage makes the steps of the parent, but at most ten passes over your rows. A share of the rows
    is held out, or --test names others; NAME/own-data holds both, and each stage measures the loss
    of those that it is not trained on.
    """
    with common.session() as output:
        recipe = sized(output, parent, size)
        from manyeyes.training.own.new_recipe import refuse_existing, write_recipe

        quiet_libraries(debug=common.debug)
        path = (
            Path(name).with_suffix(".yaml") if not name.endswith((".yaml", ".yml")) else Path(name)
        )
        refuse_existing(path)
        own_files.check(None, reason="a recipe is there to train")
        own = own_files.prepare(output, path.with_suffix(""))
        write_recipe(path, recipe, own)
        said = f" on {own.rows} rows of your own" if own else ""
        output.line(f"{path}: extends {recipe}{said}")
        output.line(f"next: {next_commands(path, own)}")
        rows = 0 if own is None else own.rows
        told = {} if own is None else {"test_rows": own.test_rows, "data": own.folder}
        output.result({"recipe": path, "extends": recipe, "rows": rows, **told})


def next_commands(path: Path, own: OwnData | None) -> str:
    """Return what to do with a new recipe; of own data, how its test rows are asked too."""
    run = Path("runs") / path.stem
    said = f"manyeyes check {path}, then manyeyes train {path} --out {run}"
    if own is None:
        return said
    benchmarks = " ".join(f"-b {name}" for name in own.benchmarks)
    return f"{said}, then manyeyes evaluate {run / 'model'} --data {own.folder} {benchmarks}"
