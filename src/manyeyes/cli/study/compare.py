"""``manyeyes compare``: several recipes on the same data, budget, seeds and questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    BudgetOption,
    DebugOption,
    JobsOption,
    JsonOption,
    QuestionsOption,
    StudyDataOption,
    StudyFolderOption,
    TrustOption,
)
from manyeyes.cli.output import session

if TYPE_CHECKING:
    from manyeyes.study.trials.contestants import Contestant

EXAMPLES = (
    "manyeyes compare clip/world dinov2/world comm/world --seeds 3 --budget steps=400 --out study",
    "manyeyes compare comm/world sum=comm/world:model.fusion.join=sum --out study",
    "manyeyes compare clip/world comm/world --reference clip/world --jobs 2 --out study",
)


def compare(
    arms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARM...", help="[NAME=]RECIPE[:KEY=VALUE,...]: recipes, with changes."
        ),
    ] = None,
    arms_file: Annotated[
        Path | None,
        typer.Option("--arms", metavar="FILE", help="More arms: a YAML file of names to recipes."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every arm: 0, 1, ...")] = 3,
    budget: BudgetOption = None,
    data: StudyDataOption = None,
    out: StudyFolderOption = Path("study"),
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            metavar="NAME",
            help="May be repeated. [default: vqa, rec, pope, caption]",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Which split is asked.")] = "test",
    limit: QuestionsOption = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="Compare all with this arm only, not every pair."),
    ] = None,
    jobs: JobsOption = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Accepted and ignored: a study always continues.")
    ] = False,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare recipes: same data and order, budget, seeds and questions; verdicts with intervals.

    Leaves DIR/report.html, table.md, results.json, and DIR/records, from which `manyeyes report`
    makes them again. A stopped study continues with the same command; trials are kept unless their
    recipe, data or parts changed.
    """
    with session(
        as_json=as_json, debug=debug, resume="the same command", trust=trust_remote_code
    ) as output:
        from manyeyes.cli.study_tables import show_study
        from manyeyes.study.comparison.compare import Settings
        from manyeyes.study.comparison.compare import compare as run
        from manyeyes.study.trials.budget import parse_budget

        quiet_libraries(debug=debug)
        chosen = parse_arms(arms or [], arms_file)
        settings = Settings(
            seeds=seeds,
            budget=None if budget is None else parse_budget(budget),
            data_dir=data,
            benchmarks=tuple(dict.fromkeys(benchmark or [])),
            split=split,
            limit=limit,
            reference=reference,
            jobs=jobs,
        )
        with output.progress() as report:
            done = run(chosen, out, settings, progress=report, note=output.note)
        output.note(f"{done.run} trials run, {done.kept} kept from before")
        show_study(output, out, done.summary)


def parse_arms(words: list[str], file: Path | None) -> list[Contestant]:
    """Return the arms of the command line, then those of the file."""
    from manyeyes.study.trials.contestants import parse_arm, read_arms

    return [*map(parse_arm, words), *(read_arms(file) if file is not None else [])]
