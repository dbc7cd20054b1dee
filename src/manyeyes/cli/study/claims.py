"""``manyeyes claims``: what the papers claim, tried on the built-in world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import DebugOption, JsonOption
from manyeyes.cli.output import session

EXAMPLES = (
    "manyeyes claims --list",
    "manyeyes claims --seeds 5 --budget steps=1000 --out claims",
    "manyeyes claims --claim comm-over-clip-boxes --seeds 5 --out comm-boxes",
)
_STYLES = {"reproduced": "green", "reversed": "red"}


def claims(
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this claim. May be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every arm.")] = 5,
    budget: Annotated[
        str | None, typer.Option(metavar="UNIT=AMOUNT", help="Of every arm; as for compare.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder; else a world is made.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the study.")] = Path("claims"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many questions per benchmark.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trials at a time, each in a process of one thread.")
    ] = 1,
    list_only: Annotated[
        bool, typer.Option("--list", help="Print the claims and their arms; run nothing.")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Try the papers' claims as named comparisons: reproduced, reversed, or not separable.

    Runs every arm that the chosen claims need as one study and writes DIR/claims.md beside its
    report. A stopped run continues with the same command, also elsewhere: DIR/records is enough.
    """
    with session(as_json=as_json, debug=debug, resume="the same command") as output:
        from manyeyes.study.claims.judgement import run_claims
        from manyeyes.study.claims.table import chosen_claims
        from manyeyes.study.comparison.compare import Settings
        from manyeyes.study.trials.budget import parse_budget

        quiet_libraries(debug=debug)
        chosen = chosen_claims(claim or [])
        if list_only:
            table = Table(
                "claim", "what is claimed", "source", title="claims", title_justify="left"
            )
            for one in chosen:
                table.add_row(one.name, escape(one.statement), escape(one.source))
            output.show(table)
            output.result({"claims": chosen})
            return
        settings = Settings(
            seeds=seeds,
            budget=None if budget is None else parse_budget(budget),
            data_dir=data,
            limit=limit,
            jobs=jobs,
        )
        with output.progress() as report:
            found = run_claims(chosen, out, settings, progress=report, note=output.note)
        table = Table("claim", "", "difference [95 %]", "control", title_justify="left")
        for judged in found.judged:
            style = _STYLES.get(judged.outcome, "dim")
            told = f"[{style}]{judged.outcome}[/{style}]"
            table.add_row(
                judged.claim.name, told, escape(judged.figure), escape(judged.control_text)
            )
        output.show(table)
        output.line(f"written: {found.page}")
        output.result({"claims": [judged.to_json() for judged in found.judged], "page": found.page})
