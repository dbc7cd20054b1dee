"""``manyeyes show``: a recipe as it will run, and who says what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import CommonOptions, SetOption
from manyeyes.cli.own_data import Size, recipe_names_for, sized

EXAMPLES = (
    "manyeyes show comm/small",
    "manyeyes show comm --size world --set training.max_steps=24 --yaml",
)


def show(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Packaged name, method or YAML file.",
            autocompletion=recipe_names_for,
        ),
    ],
    settings: SetOption = None,
    size: Size = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the resolved recipe as a recipe file.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Print a recipe as it will run, with where each value comes from.

    The source of a value is the recipe that says it last along the chain of ``extends``, --set, or
    the default of its key.
    """
    with common.session() as output:
        recipe = sized(output, recipe, size)
        from manyeyes.recipes import dump_recipe, load_recipe
        from manyeyes.recipes.finding.origins import value_origins

        quiet_libraries(debug=common.debug)
        found = value_origins(recipe, settings or [])
        if as_yaml:
            output.write(dump_recipe(load_recipe(recipe, settings or [])))
        else:
            table = Table("key", "value", "from")
            for origin in found:
                table.add_row(origin.key, escape(str(origin.value)), origin.source)
            output.show(table)
        output.result({"recipe": recipe, "values": [asdict(origin) for origin in found]})
