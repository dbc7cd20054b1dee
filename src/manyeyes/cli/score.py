"""``manyeyes score``: official metrics of a predictions file; no model, mostly no images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.evaluate import default_folder, report_usage
from manyeyes.cli.options import AnswersOption, ApiOptions, CommonOptions
from manyeyes.cli.output import Output
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.evaluation.answers.score import Scored, Scoring

EXAMPLES = (
    "manyeyes score --list",
    "manyeyes score pope --predictions answers.jsonl --annotations coco_pope_random.json",
    "manyeyes score vqav2 --predictions ours.json --against theirs.json "
    "--annotations v2_OpenEnded_mscoco_val2014_questions.json "
    "v2_mscoco_val2014_annotations.json --json",
)


@dataclass(frozen=True)
class AnswerFiles:
    """The answers, the benchmark's own files, and the rule."""

    benchmark: Annotated[
        str | None, typer.Argument(metavar="[BENCHMARK]", help="vqav2, gqa, pope, ...")
    ] = None
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Further files after --annotations FILE."),
    ] = None
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answers in the official result format.")
    ] = None
    annotations: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE...", help="The benchmark's own files, in the order of --list."),
    ] = None
    variant: Annotated[str | None, typer.Option(help="Another scoring rule.")] = None
    split: Annotated[str | None, typer.Option(help="Which split of a file that holds several.")] = (
        None
    )


@dataclass(frozen=True)
class OtherAnswers:
    """What is compared with, and where a model that is asked for it leaves its answers."""

    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Other answers to compare with, or a model to ask for them: openai:URL#MODEL.",
        ),
    ] = None
    out: AnswersOption = None


@dataclass(frozen=True)
class ReadingOptions:
    """How answers are read."""

    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Count missing answers as wrong instead of stopping."),
    ] = False
    box_style: Annotated[
        str, typer.Option(help="How answers write boxes: shikra, lion, int1000.")
    ] = "shikra"
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the images, for files that do not say how large they are.",
        ),
    ] = None


def score(
    *,
    files: AnswerFiles,
    other: OtherAnswers,
    reading: ReadingOptions,
    api: ApiOptions,
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write each item's score as JSON lines.")
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Show all benchmarks: files, formats, variants.")
    ] = False,
    details: Annotated[bool, typer.Option("--details", help="Show breakdowns.")] = False,
    common: CommonOptions,
) -> None:
    """Score a predictions file on a benchmark, from the official files alone.

    Needs no model and no images, except where boxes are read and the files do not hold the images'
    sizes. What `manyeyes evaluate` stored can be scored again, under another variant.

    With --against openai:URL#MODEL that model is asked the same questions first, about the pictures
    in --images; its answers are kept in --out.
    """
    with common.session() as output:
        if listing:
            _list(output)
            return
        from manyeyes.evaluation.answers.score import score_file, write_items

        plan, answers = _plan(files, reading)
        scored = score_file(plan, answers)
        if items is not None:
            write_items(items, scored)
        theirs, served = _theirs(output, plan, other, api)
        compared = None if theirs is None else score_file(plan, theirs)
        read = [answers, *([] if theirs is None else [theirs]), *map(Path, plan.annotations)]
        _report(output, plan, scored, compared, read, served)
        if details:
            _show_breakdowns(output, scored)


def known_box_style(name: str) -> str:
    """Return ``name``; raises ``UsageError`` if no box style is called so."""
    from manyeyes.conversation.boxes import BOX_STYLES
    from manyeyes.errors import nearest

    if name not in BOX_STYLES:
        known = ", ".join(BOX_STYLES)
        hint = nearest(name, BOX_STYLES)
        raise UsageError(f"unknown box style {name!r}{hint}; known: {known}")
    return name


def _plan(files: AnswerFiles, reading: ReadingOptions) -> tuple[Scoring, Path]:
    """Return what is scored, and the answers; raises ``UsageError`` if a file is not given."""
    from manyeyes.evaluation.answers.score import Scoring
    from manyeyes.evaluation.benchmarks import BENCHMARKS

    if files.benchmark is None:
        raise UsageError(f"give a BENCHMARK: {', '.join(BENCHMARKS)}")
    if files.predictions is None:
        raise UsageError("give --predictions FILE")
    if not files.annotations:
        raise UsageError("give --annotations FILE...; manyeyes score --list names the files")
    plan = Scoring(
        benchmark=files.benchmark,
        annotations=[*files.annotations, *(files.more or [])],
        variant=files.variant,
        split=files.split,
        box_style=known_box_style(reading.box_style),
        allow_missing=reading.allow_missing,
        images=reading.images,
    )
    return plan, files.predictions


def _report(
    output: Output,
    plan: Scoring,
    scored: Scored,
    other: Scored | None,
    files: list[Path],
    served: dict[str, Any],
) -> None:
    from manyeyes.evaluation.answers.score import describe_files
    from manyeyes.evaluation.tables.table import format_result

    found: dict[str, Any] = scored.result.to_json()
    output.show(format_result(scored.result))
    for note in scored.result.notes:
        output.line(f"note: {note}")
    if other is not None:
        found |= _compare(output, plan, scored, other)
    output.result({**found, **served, **describe_files(files)})


def _theirs(
    output: Output, plan: Scoring, other: OtherAnswers, api: ApiOptions
) -> tuple[Path | None, dict[str, Any]]:
    """Return the file of the answers to compare with, and what it took to ask for them."""
    from manyeyes.evaluation.asking.served import is_served

    if other.against is None:
        return None, {}
    if is_served(other.against):
        return _asked(output, plan, other.against, other.out, api)
    return Path(other.against), {}


def _asked(
    output: Output,
    plan: Scoring,
    model: str,
    out: Path | None,
    api: ApiOptions,
) -> tuple[Path, dict[str, Any]]:
    """Let a model behind an API answer; return the file of its answers, and what that took."""
    from manyeyes.evaluation.answers.score import read_items
    from manyeyes.evaluation.asking.runner import answer_items
    from manyeyes.evaluation.asking.served import ServedModel, parse_address
    from manyeyes.evaluation.benchmarks import get_benchmark

    if plan.images is None:
        raise UsageError(f"--against {model} is asked about pictures: give their folder, --images")
    address = parse_address(model)
    served = ServedModel(address, box_style=plan.box_style, concurrency=api.concurrency)
    folder = out or default_folder(model, plan.split or "test")
    benchmark, items = get_benchmark(plan.benchmark), read_items(plan)
    try:
        with output.progress() as report:
            file = answer_items(
                served, benchmark, items, Path(plan.images), folder, progress=report
            )
    finally:
        used = report_usage(output, served, folder, api.prices)
        served.close()
    return file, {"served": used}


def _compare(output: Output, plan: Scoring, scored: Scored, other: Scored) -> dict[str, Any]:
    from manyeyes.evaluation.tables.comparison import compare_predictions
    from manyeyes.evaluation.tables.table import format_comparison, format_result

    comparison = compare_predictions(
        scored.benchmark,
        scored.items,
        scored.predictions,
        other.predictions,
        variant=plan.variant,
        box_style=plan.box_style,
        allow_missing=plan.allow_missing,
    )
    output.show(format_result(other.result, title="against"), format_comparison(comparison))
    for note in comparison.notes:
        output.line(f"note: {note}")
    return {"against": other.result.to_json(), "comparison": comparison.to_json()}


def _show_breakdowns(output: Output, scored: Scored) -> None:
    from manyeyes.evaluation.tables.table import format_breakdowns

    output.show(*format_breakdowns(scored.result))


def _list(output: Output) -> None:
    from manyeyes.evaluation.answers.score import describe_benchmark
    from manyeyes.evaluation.benchmarks import BENCHMARKS

    found = {name: describe_benchmark(benchmark) for name, benchmark in BENCHMARKS.items()}
    for name, entry in found.items():
        output.line(f"{name}: {entry['description']}")
        output.line(f"  files     {', '.join(entry['files'])}")
        output.line(f"  results   {entry['result_format']}")
        output.line(f"  metric    {entry['metric']}")
        output.line(f"  variants  {', '.join(entry['variants'])}")
        output.line(f"  prompt    {entry['prompt']!r}")
    output.result({"benchmarks": found})
