"""``manyeyes recipes``: what there is to train."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from manyeyes.cli.options import CommonOptions
from manyeyes.errors import UsageError, nearest
from manyeyes.lines import count_text

EXAMPLES = (
    "manyeyes recipes",
    "manyeyes recipes comm",
)


def recipes(
    method: Annotated[
        str | None, typer.Argument(metavar="METHOD", help="List only this method: comm, clip, ...")
    ] = None,
    *,
    common: CommonOptions,
) -> None:
    """List the packaged recipes and what each is made of and takes.

    Memory is what ``manyeyes check`` estimates for one process, in the stage that takes most. A
    method alone names its recipe of a size: ``comm`` with --size small is comm/small.
    """
    with common.session() as output:
        from manyeyes.recipes.finding.listing import listed_recipes

        rows = listed_recipes()
        methods = list(dict.fromkeys(name.partition("/")[0] for name in rows))
        if method is not None and method not in methods:
            hint = nearest(method, methods)
            raise UsageError(f"no method {method!r}{hint}; methods: {', '.join(methods)}")
        chosen = {n: r for n, r in rows.items() if method in (None, n.partition("/")[0])}
        table = Table("recipe", "encoders", "fusion", "language model", title_justify="left")
        for title in ("learns", "tokens", "GiB"):
            table.add_column(title, justify="right")
        for name, row in chosen.items():
            language = row.language.rpartition("/")[2]
            counts = (row.trainable, row.visual_tokens, row.memory_gib)
            numbers = ["-" if count is None else count_text(count) for count in counts]
            table.add_row(name, ", ".join(row.encoders), row.fusion, language, *numbers)
        output.show(table)
        output.line(
            "`manyeyes show NAME` prints one, `manyeyes check NAME` what it builds and costs"
        )
        output.result({"recipes": {name: asdict(row) for name, row in chosen.items()}})
