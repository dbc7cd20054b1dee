"""Checkpoint folders of a stage: which are complete, and which may go.

All processes of a run write into one unfinished folder, whose name they all know; ``files`` puts it
in its place. A kill leaves at most that folder, which the next start removes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from manyeyes import files

STATE_FILE = "trainer_state.json"
_UNFINISHED = "unfinished-"
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


def unfinished(folder: Path) -> Path:
    """Return the name under which ``folder`` is being written."""
    return folder.with_name(_UNFINISHED + folder.name)


def remove_unfinished(folder: Path) -> None:
    """Remove what an interrupted save left under ``folder``."""
    files.remove_unfinished(folder)
    for path in folder.glob(f"*{_UNFINISHED}checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints under ``folder``, oldest step first.

    A ``checkpoint-N`` without ``trainer_state.json``, which is written last, is not complete.
    """
    found = []
    for path in folder.glob("checkpoint-*"):
        match = _CHECKPOINT.match(path.name)
        if match and (path / STATE_FILE).is_file():
            found.append((int(match.group(1)), path))
    return [path for _, path in sorted(found)]


def keep_newest(folder: Path, limit: int | None, best: int | None = None) -> None:
    """Remove the oldest complete checkpoints beyond ``limit`` (None = keep all).

    That of step ``best`` stays besides.
    """
    if limit is not None and limit > 0:
        for path in checkpoints(folder)[:-limit]:
            if step_of(path) != best:
                files.remove_folder(path)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step at which ``checkpoint`` was written."""
    return int(checkpoint.name.rpartition("-")[2])
