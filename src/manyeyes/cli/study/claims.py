"""``manyeyes claims``: what the papers claim, tried on the built-in world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    AGAIN,
    BudgetOption,
    CommonOptions,
    JobsOption,
    QuestionsOption,
    StudyDataOption,
    StudyFolderOption,
)

if TYPE_CHECKING:
    from manyeyes.study.claims.judgement import JudgedClaim
    from manyeyes.study.claims.table import AnyClaim

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
    budget: BudgetOption = None,
    data: StudyDataOption = None,
    out: StudyFolderOption = Path("claims"),
    limit: QuestionsOption = None,
    jobs: JobsOption = 1,
    list_only: Annotated[
        bool, typer.Option("--list", help="Print the claims and their arms; run nothing.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Try the papers' claims as named comparisons: reproduced, reversed, or not separable.

    Runs every arm that the chosen claims need as one study and writes DIR/claims.md beside its
    report. A stopped run continues with the same command, also elsewhere: DIR/records is enough.
    """
    with common.session(resume=AGAIN) as output:
        from manyeyes.study.claims.judgement import run_claims
        from manyeyes.study.claims.table import chosen_claims
        from manyeyes.study.comparison.compare import Settings
        from manyeyes.study.trials.budget import parse_budget

        quiet_libraries(debug=common.debug)
        chosen = chosen_claims(claim or [])
        if list_only:
            output.show(listed(chosen))
            output.result({"claims": chosen})
            return
        settings = Settings(
            seeds=seeds,
            budget=parse_budget(budget),
            data_dir=data,
            limit=limit,
            jobs=jobs,
        )
        with output.progress() as report:
            found = run_claims(chosen, out, settings, progress=report, note=output.note)
        output.show(outcomes(found.judged))
        output.line(f"written: {found.page}")
        output.result({"claims": [judged.to_json() for judged in found.judged], "page": found.page})


def listed(claims: Sequence[AnyClaim]) -> Table:
    """Return the claims with their sources as a table."""
    table = Table("claim", "what is claimed", "source", title="claims", title_justify="left")
    for one in claims:
        table.add_row(one.name, escape(one.statement), escape(one.source))
    return table


def outcomes(judged: Sequence[JudgedClaim]) -> Table:
    """Return what became of the claims as a table."""
    table = Table("claim", "", "difference [95 %]", "control", title_justify="left")
    for one in judged:
        style = _STYLES.get(one.outcome, "dim")
        told = f"[{style}]{one.outcome}[/{style}]"
        table.add_row(one.claim.name, told, escape(one.figure), escape(one.control_text))
    return table
