"""``manyeyes report``: a study's tables and page again, from its records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyeyes.cli.options import CommonOptions

EXAMPLES = ("manyeyes report study",)


def report(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study or a demo.")],
    *,
    common: CommonOptions,
) -> None:
    """Write a study's report.html, table.md and results.json again from DIR/records.

    Nothing is trained or asked; runs and features are not needed.
    """
    with common.session() as output:
        from manyeyes.cli.study.tables import show_study
        from manyeyes.study.comparison.outputs import write_outputs

        show_study(output, study, write_outputs(study))
