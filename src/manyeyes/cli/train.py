"""``manyeyes train``: all stages of a recipe, or one of them."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.export import write_export
from manyeyes.cli.libraries import quiet_libraries, show_log
from manyeyes.cli.options import DataOption, DebugOption, JsonOption, SetOption, TrustOption
from manyeyes.cli.output import Output, session
from manyeyes.cli.own_data import (
    HELD_OUT,
    HoldOut,
    ImagesFolder,
    MetricName,
    Size,
    SplitSeed,
    TestFile,
    TrainFiles,
    check_own,
    own_data,
    recipe_names_for,
    sized,
)
from manyeyes.errors import UsageError
from manyeyes.files import refuse_unless_empty

if TYPE_CHECKING:
    from manyeyes.data.own.folder import OwnData
    from manyeyes.recipes import EvalRecipe, Recipe
    from manyeyes.training.validation.validate import Score

EXAMPLES = (
    "manyeyes train comm/world --out runs/comm",
    "manyeyes train comm --train my.json --images pictures --out runs/mine",
    "manyeyes train comm/world --set training.max_steps=24 --out runs/short",
    "manyeyes train my-recipe.yaml --data data --out runs/mine --resume",
    "manyeyes train clip/small-lora --data data --out runs/lora --export lora-merged",
)
DEFAULT_MAX_GB = 50.0
WORLD_FOLDER = "world"
"""Under the run's folder: the data that a ``world`` recipe makes for itself."""


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Packaged name (comm/world), method (comm) or YAML file.",
            autocompletion=recipe_names_for,
        ),
    ],
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder; by default runs/ and the recipe's name."),
    ] = None,
    data: DataOption = None,
    train_files: TrainFiles = None,
    test: TestFile = None,
    images: ImagesFolder = None,
    hold_out: HoldOut = HELD_OUT,
    split_seed: SplitSeed = 0,
    metric: MetricName = None,
    size: Size = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="Train only this stage.")
    ] = None,
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out broken rows and unreadable images."),
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also report to wandb or trackio. May be repeated."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep frozen encoders' outputs here, shared by all runs that say so.",
        ),
    ] = None,
    max_gb: Annotated[
        float, typer.Option(min=0.0, help="Most that --features may hold, in GB.")
    ] = DEFAULT_MAX_GB,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write the model here as `export` does, LoRA merged."
        ),
    ] = None,
    trust_remote_code: TrustOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train the stages of a recipe.

    DIR/STAGE/checkpoint-* hold the state, DIR/model the result. Ctrl-C saves and stops; --resume
    continues exactly there. Without --data a recipe with a world block makes its own data. With
    --train all stages learn from your rows instead, of which a share is held out for testing.
    """
    folder = out or Path("runs") / recipe.removesuffix(".yaml").replace("/", "-").strip("-.")
    more = ["--features", str(features), "--max-gb", f"{max_gb:g}"] if features else []
    more += ["--export", str(export)] if export else []
    more += ["--trust-remote-code"] if trust_remote_code else []
    more += [word for path in train_files or [] for word in ("--train", str(path))]
    for name, value in (
        ("--test", test),
        ("--images", images),
        ("--metric", metric),
        ("--size", size),
    ):
        more += [name, str(value)] if value is not None else []
    more += ["--hold-out", f"{hold_out:g}"] if hold_out != HELD_OUT else []
    more += ["--split-seed", str(split_seed)] if split_seed else []
    again = _resume_command(recipe, settings or [], folder, data, stage, skip_bad_rows, more)
    with session(as_json=as_json, debug=debug, resume=again, trust=trust_remote_code) as output:
        recipe = sized(output, recipe, size)
        from manyeyes.recipes import load_recipe
        from manyeyes.training.own.rows import own_training
        from manyeyes.training.run import train as run
        from manyeyes.training.saving.run_folder import check_run_folder

        quiet_libraries(debug=debug)
        show_log(output.note)
        loaded = load_recipe(recipe, settings or [])
        check_own(train_files, test, data, reason="`manyeyes evaluate` asks a trained model")
        own = own_data(
            output,
            folder,
            train=train_files,
            test=test,
            images=images,
            hold_out=hold_out,
            split_seed=split_seed,
            metric=metric,
            skip_bad_rows=skip_bad_rows,
        )
        if own is not None:
            keep = any("max_steps" in setting for setting in settings or [])
            loaded = own_training(own).of(loaded, keep_steps=keep)
            data = own.folder
        check_run_folder(loaded, folder, resume=resume, stage=stage)
        if export is not None:
            refuse_unless_empty(export)
        _check_benchmarks(loaded)
        data = data or _world_data(output, loaded, folder)
        with output.progress() as report:
            result = run(
                loaded,
                folder,
                data_dir=data,
                resume=resume,
                stage=stage,
                skip_bad_rows=skip_bad_rows,
                trackers=track or [],
                features_dir=features,
                features_gb=max_gb if features else None,
                score=_scorer(data),
                progress=report,
            )
        output.line(f"model: {result.model_dir}")
        if export is not None and int(os.environ.get("RANK", "0")) == 0:
            write_export(str(result.model_dir), export)
            output.line(f"exported: {export}")
        for line in closing_lines(result.results, result.model_dir, data, own):
            output.line(line)
        told = {"model": result.model_dir, "out": folder, "data": data, "exported": export}
        output.result({**told, "results": result.results})


def _check_benchmarks(recipe: Recipe) -> None:
    """Raise ``UsageError`` for a benchmark of a stage's validation that does not exist."""
    from manyeyes.evaluation.benchmarks import get_benchmark

    for stage in recipe.stages:
        for name in stage.eval.benchmarks if stage.eval is not None else ():
            get_benchmark(name)


def _scorer(data: Path | None) -> Score:
    """Return who scores the benchmarks of stages on the official files in ``data``."""
    from manyeyes.evaluation.asking.validation import scores

    def score(model: Any, processor: Any, spec: EvalRecipe, folder: Path) -> dict[str, float]:
        if data is None:
            raise UsageError("eval.benchmarks need their files: give the folder with --data")
        names = spec.benchmarks
        return scores(model, processor, names, data, spec.split, folder, limit=spec.limit)

    return score


def closing_lines(
    results: Mapping[str, Any], model: Path, data: Path | None, own: OwnData | None
) -> Iterator[str]:
    """Yield what training came to, stage by stage, and the command that comes next."""
    for stage in results["stages"]:
        loss = stage.get("loss")
        said = "" if loss is None else f", loss {loss:.3f}"
        yield (
            f"{stage['stage']}: {stage['steps']:,} steps, {stage['samples']:,} samples in "
            f"{stage['seconds']:.0f} s{said}"
        )
    words = ["manyeyes", "evaluate", str(model)]
    if own is not None:
        words += [word for name in own.benchmarks for word in ("--benchmark", name)]
    else:
        words += ["--benchmark", "vqa"]
    words += ["--data", str(data) if data is not None else "DIR"]
    yield f"next: {shlex.join(words)}"


def _world_data(output: Output, recipe: Recipe, folder: Path) -> Path | None:
    """Make the data of a ``world`` recipe, once, under the run's folder; None for other recipes."""
    from manyeyes.world.make import MANIFEST, make_world

    if recipe.world is None:
        return None
    place = folder / WORLD_FOLDER
    if int(os.environ.get("RANK", "0")):
        while not (place / MANIFEST).is_file():  # the first process makes it
            time.sleep(0.5)
        return place
    images, seed = recipe.world.images, recipe.world.seed
    with output.progress() as report:
        made = make_world(place, images=images, seed=seed, progress=report)
    done = "made" if made.made else "found"
    output.note(f"no --data given: {done} a world of {images} images (seed {seed}) in {place}")
    return place


def _resume_command(
    recipe: str,
    settings: Sequence[str],
    out: Path,
    data: Path | None,
    stage: str | None,
    skip_bad_rows: bool,
    more: Sequence[str],
) -> str:
    parts = ["manyeyes", "train", recipe]
    for setting in settings:
        parts += ["--set", setting]
    parts += ["--out", str(out)]
    parts += ["--data", str(data)] if data else []
    parts += ["--stage", stage] if stage else []
    parts += ["--skip-bad-rows"] if skip_bad_rows else []
    return shlex.join([*parts, *more, "--resume"])
