"""``manyeyes report``: a study's tables and page again, from its records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.options import DebugOption, JsonOption
from manyeyes.cli.output import session

EXAMPLES = ("manyeyes report study",)


def report(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study or a demo.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a study's report.html, table.md and results.json again from DIR/records.

    Nothing is trained or asked; runs and features are not needed.
    """
    with session(as_json=as_json, debug=debug) as output:
        from manyeyes.cli.study_tables import show_study
        from manyeyes.study.comparison.outputs import write_outputs

        show_study(output, study, write_outputs(study))
