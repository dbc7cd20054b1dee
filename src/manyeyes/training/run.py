"""A whole run: every stage of a recipe, resumable at any moment.

DIR/recipe.yaml               the resolved recipe
DIR/<stage>/checkpoint-N      light checkpoints with optimizer, schedule, data and random state
DIR/<stage>/log.jsonl         one line per log entry; runs/ beside it for TensorBoard
DIR/<stage>/results.json      written when the stage is finished
DIR/features                  stored encoder outputs, with ``cache_features``, and found objects
DIR/model                     the final model
DIR/results.json              figures, hashes, seeds, environment
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from manyeyes.checkpoints.card import write_card
from manyeyes.environment import environment
from manyeyes.errors import RecipeError, UsageError
from manyeyes.files import file_sha256, marked_folder, remove_unfinished, write_json
from manyeyes.recipes import Recipe, StageRecipe
from manyeyes.recipes.training_fields import on_this_machine
from manyeyes.training.arguments import rank
from manyeyes.training.quantization import check_backend
from manyeyes.training.ranks import held_by_run, join_ranks, wait_for_ranks
from manyeyes.training.saving.card import training_sections
from manyeyes.training.saving.checksums import CHECKSUMS_FILE
from manyeyes.training.saving.folders import STATE_FILE
from manyeyes.training.saving.resume import check_same_recipe
from manyeyes.training.saving.resume_state import read_object
from manyeyes.training.saving.run_folder import (
    MODEL_FOLDER,
    RECIPE_FILE,
    RESULTS_ADVICE,
    check_run_folder,
    is_complete,
    write_recipe,
)
from manyeyes.training.stage import RESULTS_FILE, RunOptions, Stage
from manyeyes.training.validation.validate import Score

TRAINING_STATE = (
    *("optimizer.pt", "scheduler.pt", "scaler.pt"),
    *("data_state.json", STATE_FILE, CHECKSUMS_FILE),
)
"""Files of a checkpoint that only resuming needs (besides ``rng_state*``)."""


@dataclass(frozen=True)
class TrainingResult:
    """The folder of the trained model, and the run's ``results.json``."""

    model_dir: Path
    results: Mapping[str, Any]


def train(
    recipe: Recipe,
    out_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    resume: bool = False,
    stage: str | None = None,
    skip_bad_rows: bool = False,
    trackers: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
    features_dir: str | Path | None = None,
    features_gb: float | None = None,
    score: Score | None = None,
) -> TrainingResult:
    """Train all stages of ``recipe`` (or only ``stage``) under ``out_dir``.

    With ``resume`` finished stages are not run again and an unfinished one continues at its last
    checkpoint, to bit-identical weights on the CPU. ``progress`` is called with the stage, its
    steps done and its steps in all. Runs that share a ``features_dir`` (``out_dir/features`` by
    default) share what frozen encoders computed, with ``cache_features``; with ``features_gb`` all
    stages do, and the folder holds no more than that. ``score`` answers and scores the benchmarks
    of a stage's ``eval``.

    Raises:
        UsageError: ``out_dir`` already holds a run and ``resume`` is off, or something else that
            would be replaced; a stage whose
            predecessor has not been trained; no room for the features.
        InUseError: another process works in ``out_dir``.
        RecipeError, DataError, CheckpointError, NonFiniteError: what each is about.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state was saved and ``resume`` continues it.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()  # of weights being loaded and written
    recipe = _on_this_machine(recipe)
    check_backend(recipe.quantization)
    _check_sharding(recipe)
    join_ranks(recipe.stages)
    where = None if data_dir is None else Path(data_dir)
    options = RunOptions(
        Path(out_dir),
        where,
        resume,
        skip_bad_rows,
        tuple(trackers),
        progress,
        None if features_dir is None else Path(features_dir),
        features_gb,
        score,
    )
    specs = recipe.stages if stage is None else [recipe.stage(stage)]
    with held_by_run(options.out_dir):
        return _train_held(recipe, specs, options)


def _train_held(
    recipe: Recipe, specs: Sequence[StageRecipe], options: RunOptions
) -> TrainingResult:
    stages = [Stage(recipe, spec, options) for spec in specs]
    _claim(recipe, options, stages)
    open_stages = [item for item in stages if not item.is_finished]
    for item in open_stages:
        item.run()
    known = [spec.name for spec in recipe.stages]
    if rank() == 0 and (open_stages or not is_complete(options.out_dir, known)):
        _finish(recipe, stages[-1], options.out_dir)
    wait_for_ranks()
    found = read_object(options.out_dir / RESULTS_FILE, RESULTS_ADVICE)
    return TrainingResult(options.out_dir / MODEL_FOLDER, found)


def _on_this_machine(recipe: Recipe) -> Recipe:
    """Settle what recipes leave to the machine, so that a run ends in the numbers it began in."""
    stages = [
        spec.model_copy(update={"training": on_this_machine(spec.training)})
        for spec in recipe.stages
    ]
    return recipe.model_copy(update={"stages": stages})


def _check_sharding(recipe: Recipe) -> None:
    """Raise ``RecipeError`` where weights in four bits would be sharded."""
    for spec in recipe.stages:
        if recipe.quantization and spec.training.get("fsdp"):
            raise RecipeError(
                f"stages.{spec.name}.training.fsdp: weights in four bits are not sharded; leave "
                "out `fsdp` (every process holds them) or `quantization`"
            )


def _claim(recipe: Recipe, options: RunOptions, stages: Sequence[Stage]) -> None:
    """Take ``out_dir`` for this recipe, or check that it already belongs to it."""
    out = options.out_dir
    only = stages[0].spec.name if len(stages) < len(recipe.stages) else None
    check_run_folder(recipe, out, resume=options.resume, stage=only)
    path = out / RECIPE_FILE
    if path.is_file():
        if not options.resume and any(item.folder.is_dir() for item in stages):
            raise UsageError(
                f"{out} already holds a run; continue it with --resume, or choose another folder"
            )
        check_same_recipe(recipe, path)
    wait_for_ranks()
    if rank() == 0:
        remove_unfinished(out)
        write_recipe(recipe, out)


def _finish(recipe: Recipe, last: Stage, out: Path) -> None:
    """Copy the last checkpoint's model to ``out/model`` and write the run's results."""
    result = last.result_checkpoint
    if result is None:
        raise UsageError(f"stage {last.spec.name!r} left no checkpoint in {last.folder}")
    entries = [out / spec.name / RESULTS_FILE for spec in recipe.stages]
    found = [read_object(path, RESULTS_ADVICE) for path in entries if path.is_file()]
    with marked_folder(out / MODEL_FOLDER) as folder:
        left = shutil.ignore_patterns(*TRAINING_STATE, "rng_state*")
        shutil.copytree(result, folder, ignore=left, dirs_exist_ok=True)
        told = training_sections(recipe, found)
        write_card(folder, recipe.name, instead_of=out / MODEL_FOLDER, sections=told)
    weights = sorted((out / MODEL_FOLDER).glob("*.safetensors"))
    write_json(
        out / RESULTS_FILE,
        {
            "recipe": recipe.name,
            "seed": recipe.seed,
            "stages": found,
            "model": MODEL_FOLDER,
            "weights": {path.name: file_sha256(path) for path in weights},
            "environment": environment(),
        },
    )
