"""``manyeyes train``: all stages of a recipe, or one of them."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.export import write_export
from manyeyes.cli.libraries import quiet_libraries, show_log
from manyeyes.cli.options import DataOption, FolderOptions, SetOption
from manyeyes.cli.output import Output
from manyeyes.cli.own_data import OwnOptions, Size, recipe_names_for, sized
from manyeyes.cli.parsing import resume_command
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
WORLD_FOLDER = "world"
"""Under the run's folder: the data that a ``world`` recipe makes for itself."""


@dataclass(frozen=True)
class BesideOptions:
    """What is done beside the training itself, or left out of it."""

    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")
    ] = False
    stage: Annotated[str | None, typer.Option(metavar="NAME", help="Train only this stage.")] = None
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out broken rows and unreadable images."),
    ] = False
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also report to wandb or trackio. May be repeated."),
    ] = None
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep what frozen encoders compute in this folder. Runs that name it share it.",
        ),
    ] = None
    max_gb: Annotated[
        float, typer.Option(min=0.0, help="Largest size of the --features folder, in GB.")
    ] = 50.0
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write the model here as `export` does, LoRA merged."
        ),
    ] = None


def train(
    context: typer.Context,
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
    *,
    own_files: OwnOptions,
    size: Size = None,
    beside: BesideOptions,
    common: FolderOptions,
) -> None:
    """Train the stages of a recipe.

    DIR/STAGE/checkpoint-* hold the state, DIR/model the result. Ctrl-C saves and stops; --resume
    continues exactly there. Without --data a recipe with a world block makes its own data. With
    --train all stages learn from your rows instead, of which a share is held out for testing.
    """
    folder = out or Path("runs") / recipe.removesuffix(".yaml").replace("/", "-").strip("-.")
    with common.session(resume=resume_command(context)) as output:
        recipe = sized(output, recipe, size)
        from manyeyes.recipes import load_recipe
        from manyeyes.training.own.rows import own_training

        quiet_libraries(debug=common.debug)
        show_log(output.note)
        loaded = load_recipe(recipe, settings or [])
        own_files.check(data, reason="`manyeyes evaluate` asks a trained model")
        own = own_files.prepare(output, folder, skip_bad_rows=beside.skip_bad_rows)
        if own is not None:
            keep = any("max_steps" in setting for setting in settings or [])
            loaded = own_training(own).of(loaded, keep_steps=keep)
            data = own.folder
        _run(output, loaded, folder, data, own, beside)


def _run(
    output: Output,
    recipe: Recipe,
    folder: Path,
    data: Path | None,
    own: OwnData | None,
    options: BesideOptions,
) -> None:
    """Check what can be checked before, train, export, and tell what it came to."""
    from manyeyes.training.run import train as train_stages
    from manyeyes.training.saving.run_folder import check_run_folder

    check_run_folder(recipe, folder, resume=options.resume, stage=options.stage)
    if options.export is not None:
        refuse_unless_empty(options.export)
    _check_benchmarks(recipe)
    data = data or _world_data(output, recipe, folder)
    with output.progress() as report:
        result = train_stages(
            recipe,
            folder,
            data_dir=data,
            resume=options.resume,
            stage=options.stage,
            skip_bad_rows=options.skip_bad_rows,
            trackers=options.track or [],
            features_dir=options.features,
            features_gb=options.max_gb if options.features else None,
            score=_scorer(data),
            progress=report,
        )
    output.line(f"model: {result.model_dir}")
    if options.export is not None and int(os.environ.get("RANK", "0")) == 0:
        write_export(str(result.model_dir), options.export, note=output.note)
        output.line(f"exported: {options.export}")
    for line in closing_lines(result.results, result.model_dir, data, own):
        output.line(line)
    told = {"model": result.model_dir, "out": folder, "data": data, "exported": options.export}
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
    """Make the data of a ``world`` recipe, once, under the run's folder.

    None for other recipes, and where all data files lie elsewhere.
    """
    from manyeyes.world.make import MANIFEST, make_world

    sources = [source.path for stage in recipe.stages for source in stage.data]
    if recipe.world is None or all(Path(path).is_absolute() for path in sources):
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
