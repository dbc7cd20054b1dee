"""``manyeyes evaluate``: official metrics of a model, beside its baselines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import (
    AGAIN,
    AnswersOption,
    BatchSizeOption,
    BenchmarksOption,
    DataOption,
    LimitOption,
    ModelArgument,
    ModelOptions,
    PresetOption,
    ServedOptions,
    SplitOption,
    VariantsOption,
)
from manyeyes.cli.output import Output
from manyeyes.cli.own_data import OwnOptions, own_record, same_split
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.data.own.folder import OwnData
    from manyeyes.evaluation.asking.served import ServedModel
    from manyeyes.inference.questions import Predictor
    from manyeyes.records import Use

EXAMPLES = (
    "manyeyes evaluate runs/comm/model --benchmark vqa --benchmark rec --data data",
    "manyeyes evaluate runs/comm/model --test my_test.json --images pictures",
    "manyeyes evaluate runs/comm/model --benchmark pope --data data --limit 100 --json",
    "manyeyes evaluate runs/comm/model -b vqa -b pope --variant pope=strict --data data",
    "manyeyes evaluate runs/comm/model -b pope --choice loglik --data data",
    "manyeyes evaluate openai:http://localhost:8000/v1#demo/model -b vqa --data data",
    "manyeyes evaluate runs/comm/model --test my.json --judge openai:https://HOST/v1#MODEL",
)


@dataclass(frozen=True)
class AskingOptions:
    """What is asked, of how many items, and where the answers go."""

    variant: VariantsOption = None
    split: SplitOption = "test"
    limit: LimitOption = None
    out: AnswersOption = None
    batch_size: BatchSizeOption = 32
    text_only: Annotated[
        bool, typer.Option(help="Also answer without the image, as a baseline.")
    ] = True
    choice: Annotated[
        str,
        typer.Option(
            metavar="MODE", help="Multiple choice by generate, letter, loglik or loglik_norm."
        ),
    ] = "generate"


@dataclass(frozen=True)
class PerceivedOptions:
    """What the prompt says of an image: objects and tags."""

    objects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write these objects (COCO layout) where the model writes what it detects.",
        ),
    ] = None
    objects_use: Annotated[
        str, typer.Option(metavar="USE", help="How --objects is used: given, shuffled or empty.")
    ] = "given"
    tags: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Tags of the images, their names relative to DIR/images; default: the model's "
            "tagger, if it has one.",
        ),
    ] = None
    tags_use: Annotated[
        str, typer.Option(metavar="USE", help="How --tags is used: given, shuffled or empty.")
    ] = "given"


@dataclass(frozen=True)
class JudgeOptions:
    """Who judges answers in words beside the metrics, and against which marks."""

    judge: Annotated[
        str | None,
        typer.Option(
            metavar="openai:URL#MODEL",
            help="Also ask this model whether each answer says what the references say.",
        ),
    ] = None
    marked: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Rows of predictions-*.jsonl with "right": true or false by your own judgement; '
            "how often the judge agrees is reported.",
        ),
    ] = None


def evaluate(
    model: ModelArgument,
    data: DataOption = None,
    benchmark: BenchmarksOption = None,
    *,
    own_files: OwnOptions,
    asking: AskingOptions,
    perceived: PerceivedOptions,
    api: ServedOptions,
    judging: JudgeOptions,
    preset: PresetOption = "greedy",
    details: Annotated[bool, typer.Option("--details", help="Show all metrics.")] = False,
    common: ModelOptions,
) -> None:
    """Score a model on benchmarks in their official file formats.

    MODEL may be one behind an OpenAI API: openai:http://HOST/v1#NAME, with its key in the variable
    OPENAI_API_KEY. What that server refuses counts as wrong and is listed.

    Each score stands with n, a 95 % interval clustered by image, the best constant answer and the
    same model without the image. Repeating an interrupted command continues it. With --test, or
    --train and a held-out share, it is your own rows that are asked. No answer is judged by
    another model unless --judge names one; its verdicts stand beside the metrics.
    """
    with common.session(resume=AGAIN) as output:
        from manyeyes.evaluation.asking.choice_modes import checked_mode
        from manyeyes.evaluation.asking.served import is_served

        quiet_libraries(debug=common.debug)
        folder = asking.out or default_folder(model, asking.split)
        judge = served_judge(judging, api)
        told = own_record(model)
        own = in_the_same_style(own_files, told, output).prepare(output, folder)
        data = data_folder(data, own)
        names = known_benchmarks(benchmark or list(own.benchmarks if own else ()))
        checked_mode(asking.choice)
        variants = parse_variants(asking.variant or [])
        served = None
        predictor: Predictor
        if is_served(model):
            predictor = served = served_model(model, api, perceived, preset)
        else:
            predictor = local_predictor(model, data, asking, perceived, preset, common)
        results = _evaluate(output, predictor, names, data, folder, variants, asking)
        _show(output, results, own, told, details=details)
        if served is not None:
            results["served"] = report_usage(output, served, folder, api.prices)
            served.close()
        if judge is not None:
            results["judge"] = _judge(output, judge, judging.marked, names, folder)
            judge.close()
        output.line(f"answers and results: {folder}")
        output.result({**results, "out": folder})


def in_the_same_style(files: OwnOptions, told: Mapping[str, Any], output: Output) -> OwnOptions:
    """Return the options with the style of boxes in texts that the model was trained with."""
    from manyeyes.conversation.boxes import BOX_STYLES

    style = told.get("text_boxes")
    if files.text_boxes is not None or style not in BOX_STYLES or not (files.train or files.test):
        return files
    output.note(f"boxes in the texts are read as {style}, as for this model's training")
    return replace(files, text_boxes=style)


def served_judge(judging: JudgeOptions, api: ServedOptions) -> ServedModel | None:
    """Return the judge; raises ``UsageError`` for marks without one."""
    from manyeyes.evaluation.asking.served import ServedModel, parse_address

    if judging.judge is None:
        if judging.marked is not None:
            raise UsageError("--marked says how well a judge judges; give --judge openai:URL#MODEL")
        return None
    return ServedModel(parse_address(judging.judge), concurrency=api.concurrency)


def _judge(
    output: Output, judge: ServedModel, marked: Path | None, names: list[str], folder: Path
) -> dict[str, Any]:
    """Let every answer be judged, and the judge by what was marked by hand."""
    from manyeyes.evaluation.answers.judge import judge_benchmarks

    with output.progress() as report:
        found = judge_benchmarks(judge, names, folder, marked, report)
    for name, entry in found["benchmarks"].items():
        bounds = "" if entry["ci95"] is None else " [{:.1f}, {:.1f}]".format(*entry["ci95"])
        unclear = f", unclear on {entry['unclear']}" if entry["unclear"] else ""
        output.line(
            f"judged: {name}: {entry['right']:.1f}{bounds} of {entry['n']} right by "
            f"{judge.address.model}{unclear}"
        )
    output.line(found["agreement"]["text"] if marked else "note: the judge itself was not checked")
    return found


def served_model(
    model: str, api: ServedOptions, perceived: PerceivedOptions, preset: str
) -> ServedModel:
    """Return the model behind an API; raises ``UsageError`` for options that are not for it."""
    from manyeyes.evaluation.asking.served import ServedModel, parse_address

    if perceived.objects or perceived.tags or preset != "greedy":
        raise UsageError("--objects, --tags and --preset are for a model of manyeyes")
    address = parse_address(model)
    return ServedModel(address, box_style=api.box_style, concurrency=api.concurrency)


def local_predictor(
    model: str,
    data: Path,
    asking: AskingOptions,
    perceived: PerceivedOptions,
    preset: str,
    common: ModelOptions,
) -> Predictor:
    """Load a model of ours, ready to answer; raises as `load_model` does."""
    from manyeyes.inference.decoding import decoding_preset
    from manyeyes.inference.perceived import perceived_in_data
    from manyeyes.inference.predictor import ModelPredictor
    from manyeyes.model.loading import load_autocast

    tags_use = checked_use(perceived.tags_use)
    decoding = decoding_preset(preset)
    loaded, processor, half = load_autocast(model, dtype=common.dtype, device=common.device)
    told = perceived_in_data(
        loaded,
        processor,
        data,
        asking.split,
        tags=perceived.tags,
        tags_use=tags_use,
        objects=perceived.objects,
        objects_use=perceived.objects_use,
    )
    return ModelPredictor(
        loaded,
        processor,
        batch_size=asking.batch_size,
        decoding=decoding,
        dtype=half,
        perceived=told,
    )


def _evaluate(
    output: Output,
    predictor: Predictor,
    names: list[str],
    data: Path,
    folder: Path,
    variants: dict[str, str],
    asking: AskingOptions,
) -> dict[str, Any]:
    from manyeyes.evaluation.asking.runner import evaluate as run

    with output.progress() as report:
        return run(
            predictor,
            names,
            data,
            asking.split,
            folder,
            limit=asking.limit,
            variants=variants,
            text_only=asking.text_only,
            choice=asking.choice,
            progress=report,
        )


def _show(
    output: Output,
    results: Mapping[str, Any],
    own: OwnData | None,
    told: Mapping[str, Any],
    *,
    details: bool,
) -> None:
    from manyeyes.evaluation.tables.table import format_table

    output.show(format_table(results, details=details))
    for name, entry in results["benchmarks"].items():
        for note in entry["model"]["notes"]:
            output.line(f"note: {name}: {note}")
    for line in honest_lines(results, own, told):
        output.line(line)


def report_usage(
    output: Output, model: ServedModel, folder: Path, prices: tuple[float, float] | None
) -> dict[str, Any]:
    """Say what a model behind an API was asked this time, and all that it refused so far."""
    from manyeyes.evaluation.asking.served import remembered

    usage = model.usage
    refused = remembered(folder, usage.refused)
    output.line(
        f"asked {usage.requests} questions: {usage.prompt_tokens} tokens read, "
        f"{usage.completion_tokens} written"
    )
    found = {**vars(usage), "refused": refused}
    if prices is not None:
        found["cost"] = usage.cost(prices)
        output.line(f"cost: {found['cost']:.4f}")
    if refused:
        name, reason = next(iter(refused.items()))
        output.line(f"refused and counted as wrong: {len(refused)}, the first is {name}: {reason}")
    return found


SHARES = ("accuracy", "box_f1")
"""Headlines whose mean times n is a number of right answers."""


def honest_lines(
    results: Mapping[str, Any], own: OwnData | None, told: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what would make the figures worthless: below the constant answer, hardly ever right,
    pictures that were trained on. ``told``: what the model's run was told of own files."""
    from manyeyes.study.comparison.constant import below_constant
    from manyeyes.study.comparison.honesty import few_right, seen_pictures
    from manyeyes.study.record import Seen

    figures = {
        name: tuple(entry[who]["metrics"][entry["metric"]] for who in ("model", "majority"))
        for name, entry in results["benchmarks"].items()
    }
    shares = {
        name: (figures[name][0] / 100 * entry["n"], entry["n"])
        for name, entry in results["benchmarks"].items()
        if entry["metric"] in SHARES
    }
    below = below_constant({name: ([model], best) for name, (model, best) in figures.items()})
    yield from filter(None, (below.replace("All arms score", "It scores"), few_right(shares)))
    if own is not None and not same_split(told, own):
        yield (
            "Whether this model was trained on the asked pictures is not known: its run was not "
            "told of this split."
        )
    elif own is not None and own.sources:
        yield seen_pictures(Seen(own.test_images, own.leaking_images, own.compared))


def data_folder(data: Path | None, own: OwnData | None) -> Path:
    """Return where the benchmarks' files lie; UsageError for none, or for two places."""
    if data is not None and own is not None:
        raise UsageError("give --data for a folder, or --test and --train for your own files")
    if data is None and own is None:
        raise UsageError("give --data DIR with the benchmarks' files, or --test with your own rows")
    return own.folder if own is not None else data or Path()


def checked_use(use: str) -> Use:
    """Return ``use``; raises ``UsageError`` for one that does not exist."""
    from manyeyes.records import USES

    if use not in USES:
        raise UsageError(f"--tags-use takes {', '.join(USES)}, got {use!r}")
    return use


def known_benchmarks(names: list[str]) -> list[str]:
    """Return ``names``; raises ``UsageError`` for none, or for one that does not exist."""
    from manyeyes.evaluation.benchmarks import BENCHMARKS, get_benchmark

    if not names:
        raise UsageError(f"give at least one --benchmark: {', '.join(BENCHMARKS)}")
    for name in names:
        get_benchmark(name)
    return names


def parse_variants(words: list[str]) -> dict[str, str]:
    """Return benchmark -> variant of ``BENCHMARK=NAME`` words; raises ``UsageError``."""
    from manyeyes.evaluation.benchmarks import get_benchmark

    found: dict[str, str] = {}
    for word in words:
        name, sign, variant = word.partition("=")
        if not (name and sign and variant):
            raise UsageError(f"--variant takes BENCHMARK=NAME, got {word!r}")
        if name in found:
            raise UsageError(f"--variant is given twice for {name!r}")
        found[name] = get_benchmark(name).checked_variant(variant)
    return found


def default_folder(model: str, split: str) -> Path:
    """Return ``evaluation-SPLIT`` beside a model's folder, or here for a model elsewhere."""
    if model.startswith("openai:"):
        return Path(f"evaluation-{split}-{re.sub(r'[^A-Za-z0-9._-]+', '-', model)}")
    path = Path(model)
    return (path.parent if path.is_dir() else Path()) / f"evaluation-{split}"
