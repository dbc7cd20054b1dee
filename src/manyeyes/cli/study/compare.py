"""``manyeyes compare``: several recipes on the same data, budget, seeds and questions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    AGAIN,
    BudgetOption,
    FolderOptions,
    FromScratchOption,
    JobsOption,
    QuestionsOption,
    ServedOptions,
    StudyDataOption,
    StudyFolderOption,
)
from manyeyes.cli.own_data import OwnOptions, Size, recipe_names_for, sized

if TYPE_CHECKING:
    from manyeyes.data.own.folder import OwnData
    from manyeyes.study.comparison.compare import Settings
    from manyeyes.study.trials.contestants import Contestant

EXAMPLES = (
    "manyeyes compare clip dinov2 comm --train my.json --images pictures --out study",
    "manyeyes compare clip/world dinov2/world comm/world --seeds 3 --budget steps=400 --out study",
    "manyeyes compare comm/world sum=comm/world:model.fusion.join=sum --out study",
    "manyeyes compare clip/world comm/world --reference clip/world --jobs 2 --out study",
    "manyeyes compare comm/world theirs=openai:http://localhost:8000/v1#demo/model --out study",
)


@dataclass(frozen=True)
class ArmOptions:
    """The arms, and what every one of them gets."""

    arms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARM...",
            help="[NAME=]RECIPE[:KEY=VALUE,...]: recipes or methods (comm), with changes; or "
            "[NAME=]openai:URL#MODEL, which is only asked.",
            autocompletion=recipe_names_for,
        ),
    ] = None
    arms_file: Annotated[
        Path | None,
        typer.Option("--arms", metavar="FILE", help="More arms: a YAML file of names to recipes."),
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every arm: 0, 1, ...")] = 3
    budget: BudgetOption = None
    from_scratch: FromScratchOption = False


@dataclass(frozen=True)
class QuestionOptions:
    """What is asked of the arms, and which of them are compared."""

    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            "-b",
            metavar="NAME",
            help="May be repeated. [default: vqa, rec, pope, caption; of own data all that fit]",
        ),
    ] = None
    split: Annotated[str, typer.Option(help="Which split is asked.")] = "test"
    limit: QuestionsOption = None
    reference: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="Compare all with this arm only, not every pair."),
    ] = None


def compare(
    *,
    every: ArmOptions,
    data: StudyDataOption = None,
    own_files: OwnOptions,
    size: Size = None,
    out: StudyFolderOption = Path("study"),
    questions: QuestionOptions,
    jobs: JobsOption = 1,
    api: ServedOptions,
    resume: Annotated[
        bool, typer.Option("--resume", help="Accepted and ignored: a study always continues.")
    ] = False,
    common: FolderOptions,
) -> None:
    """Compare recipes: same data and order, budget, seeds and questions; verdicts with intervals.

    Leaves DIR/report.html, table.md, results.json, and DIR/records, from which `manyeyes report`
    makes them again. A stopped study continues with the same command; trials are kept unless their
    recipe, data or parts changed.

    An arm openai:URL#MODEL is not trained: its server is asked the same questions, with the key in
    the variable OPENAI_API_KEY. The report says so, and what was refused. Answers are kept.

    With --train every arm trains on your rows instead of its recipe's data and is asked --test, or
    a share of --train that is held out by image; how answers are scored follows from the answers.
    """
    with common.session(resume=AGAIN) as output:
        from manyeyes.cli.study.tables import show_study
        from manyeyes.study.comparison.compare import compare as run
        from manyeyes.study.trials.asked import Asking
        from manyeyes.study.trials.budget import parse_budget

        quiet_libraries(debug=common.debug)
        amount = parse_budget(every.budget)
        chosen = parse_arms(every.arms or [], every.arms_file)
        chosen = [
            arm if arm.served else replace(arm, recipe=sized(output, arm.recipe, size))
            for arm in chosen
        ]
        if every.from_scratch:
            chosen = [arm if arm.served else arm.from_scratch() for arm in chosen]
        own_files.check(data, reason="a comparison trains every arm first")
        own = own_files.prepare(output, out)
        settings = replace(
            study_settings(questions, own, data),
            seeds=every.seeds,
            budget=amount,
            jobs=jobs,
            asking=Asking(api.box_style, api.concurrency, api.prices),
        )
        chosen = on_own_data(chosen, own)
        with output.progress() as report:
            done = run(chosen, out, settings, progress=report, note=output.note)
        output.note(f"{done.run} trials run, {done.kept} kept from before")
        show_study(output, out, done.summary)


def study_settings(asked: QuestionOptions, own: OwnData | None, data: Path | None) -> Settings:
    """Return what is asked, of own files if there are any."""
    from manyeyes.study.comparison.compare import Settings
    from manyeyes.study.record import Seen

    return Settings(
        data_dir=data if own is None else own.folder,
        benchmarks=tuple(dict.fromkeys(asked.benchmark or (own.benchmarks if own else ()))),
        split=asked.split,
        limit=asked.limit,
        reference=asked.reference,
        seen=None if own is None else Seen(own.test_images, own.leaking_images, own.compared),
    )


def on_own_data(arms: list[Contestant], own: OwnData | None) -> list[Contestant]:
    """Return the arms with own rows to train on, if there are any."""
    if own is None:
        return arms
    from manyeyes.training.own.rows import own_training

    return [arm if arm.served else replace(arm, own=own_training(own)) for arm in arms]


def parse_arms(words: list[str], file: Path | None) -> list[Contestant]:
    """Return the arms of the command line, then those of the file."""
    from manyeyes.study.trials.contestants import parse_arm, read_arms

    return [*map(parse_arm, words), *(read_arms(file) if file is not None else [])]
