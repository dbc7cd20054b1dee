"""Stages that several trials of a study have in common are trained once.

Two trials have a stage in common when all that decides its weights is equal: the seed, and model,
training arguments and data of this stage and of all before it. Training is deterministic, so the
finished stage of one is what the other would arrive at, and is copied.

    OUT/runs/ARM/seed-S/stages.json     stage -> hash of what decides its weights
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from manyeyes.files import write_json, written_folder
from manyeyes.training.stage import RESULTS_FILE

STAGES_FILE = "stages.json"


def note_stages(run: Path, keys: Mapping[str, str]) -> None:
    """Say in the folder of a trial what its stages are."""
    write_json(run / STAGES_FILE, dict(keys))


def take_finished(run: Path, keys: Mapping[str, str]) -> dict[str, Path]:
    """Copy into ``run`` the stages that others have finished; return stage -> whose it is.

    A stage is taken when all before it are finished and it was not begun in ``run`` itself.

    Raises:
        WriteError: the disk is full.
    """
    taken = {}
    for name, key in keys.items():
        if (run / name / RESULTS_FILE).is_file():
            continue
        owner = None if (run / name).exists() else _owner(run, name, key)
        if owner is None:
            break
        with written_folder(run / name) as folder:
            shutil.copytree(owner / name, folder, dirs_exist_ok=True)
        taken[name] = owner
    return taken


def open_stages(run: Path, keys: Mapping[str, str]) -> Iterator[str]:
    """Yield the hash of every stage of a trial that no trial of the study has finished."""
    for name, key in keys.items():
        if not (run / name / RESULTS_FILE).is_file() and _owner(run, name, key) is None:
            yield key


def _owner(run: Path, name: str, key: str) -> Path | None:
    """Return the folder of another trial that has finished this very stage."""
    for note in sorted(run.parent.parent.glob(f"*/*/{STAGES_FILE}")):
        other = note.parent
        if other != run and (other / name / RESULTS_FILE).is_file():
            if json.loads(note.read_text()).get(name) == key:
                return other
    return None
