"""Whether a folder may hold a run: nothing in it that is not ours is ever replaced or removed.

What a run replaces carries a mark: ``recipe.yaml`` begins with a line that says so, checkpoints
hold the state of the data, ``model`` has the list of its files. Source: ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from manyeyes.errors import ManyEyesError, UsageError
from manyeyes.files import check_mark, write_text
from manyeyes.recipes import Recipe, dump_recipe, load_recipe
from manyeyes.training.saving.resume_state import DATA_STATE_FILE, read_object

RECIPE_FILE, RESULTS_FILE, MODEL_FOLDER = "recipe.yaml", "results.json", "model"
HEAD = "# Written by manyeyes train: the resolved recipe of the run in this folder.\n"
RESULTS_ADVICE = "remove it to have it written again"


def check_run_folder(recipe: Recipe, out: Path, *, resume: bool, stage: str | None = None) -> None:
    """Check that a run of ``recipe`` may write into ``out``; reads only.

    Raises:
        UsageError: something stands there that a run would replace and that no run has written.
    """
    path = out / RECIPE_FILE
    if os.path.lexists(path):
        if not _is_run_recipe(path, out):
            _refuse(path)
    else:
        for spec in recipe.stages:
            folder = out / spec.name
            if stage in (None, spec.name) and not _is_free(folder):
                if not (resume and _is_stage(folder)):
                    _refuse(folder)
        if os.path.lexists(out / RESULTS_FILE) and not _is_results(out / RESULTS_FILE):
            _refuse(out / RESULTS_FILE)
    if not is_complete(out, [spec.name for spec in recipe.stages]):
        check_mark(out / MODEL_FOLDER)


def write_recipe(recipe: Recipe, out: Path) -> None:
    """Write the resolved recipe into the folder of its run.

    Raises:
        WriteError: it cannot be written.
    """
    write_text(out / RECIPE_FILE, HEAD + dump_recipe(recipe))


def is_complete(out: Path, stages: Iterable[str]) -> bool:
    """Tell whether ``out`` holds a model, and results of exactly those stages that are finished."""
    if not (out / MODEL_FOLDER / "config.json").is_file() or not _is_results(out / RESULTS_FILE):
        return False
    told = [entry.get("stage") for entry in read_object(out / RESULTS_FILE)["stages"]]
    return told == [name for name in stages if (out / name / RESULTS_FILE).is_file()]


def _refuse(path: Path) -> None:
    raise UsageError(
        f"{path} is there, and no run of this program has written it: it would be replaced. Choose "
        "another folder with --out, or move it away"
    )


def _is_run_recipe(path: Path, out: Path) -> bool:
    """Tell a recipe that a run wrote: by its first line, or because nothing in it would be lost.

    Runs of before did not write that line, and fields have come since: beside a stage's checkpoints
    a recipe without remarks is theirs.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith(HEAD):
            return True
        recipe = load_recipe(path)
        trained = any(_is_stage(out / spec.name) for spec in recipe.stages)
        return text == dump_recipe(recipe) or (trained and "#" not in text)
    except (OSError, UnicodeDecodeError, ManyEyesError):
        return False


def _is_free(folder: Path) -> bool:
    return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))


def _is_stage(folder: Path) -> bool:
    """Tell a stage's folder: it has checkpoints, and all of them are ours."""
    found = list(folder.glob("checkpoint-*"))
    return bool(found) and all((path / DATA_STATE_FILE).is_file() for path in found)


def _is_results(path: Path) -> bool:
    try:
        found = read_object(path)
    except ManyEyesError:
        return False
    entries = found.get("stages")
    known = "recipe" in found and isinstance(entries, list)
    return known and all(isinstance(entry, dict) for entry in entries or ())
