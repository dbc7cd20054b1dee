"""``manyeyes keys``: what a recipe may say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from manyeyes.cli.options import CommonOptions

EXAMPLES = (
    "manyeyes keys",
    "manyeyes keys fusion.comm",
    "manyeyes keys global_batch_size",
)


def keys(
    place: Annotated[
        str | None,
        typer.Argument(metavar="BLOCK_OR_KEY", help="A block (fusion.comm, stages) or a key."),
    ] = None,
    *,
    common: CommonOptions,
) -> None:
    """Explain the keys of recipes: type, default and meaning.

    Without an argument the blocks are listed. The page docs/keys.md holds the same for all blocks.
    """
    with common.session() as output:
        from manyeyes.recipes.finding.key_table import chosen_blocks, known_keys

        found = known_keys() if place is None else chosen_blocks(place)
        if place is None:
            table = Table("block", "keys")
            for block, inside in found.items():
                table.add_row(block, ", ".join(inside) or "none")
            output.show(table)
        for block, inside in found.items() if place is not None else ():
            table = Table("key", "takes", "default", "meaning", title=block, title_justify="left")
            for name, key in inside.items():
                default = "must be given" if key.default is None else key.default
                table.add_row(name, *map(escape, (key.type, default, key.meaning)))
            output.show(table)
        output.result(
            {b: {name: asdict(key) for name, key in inside.items()} for b, inside in found.items()}
        )
