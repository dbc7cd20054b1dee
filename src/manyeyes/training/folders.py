"""Checkpoint folders that are either complete or not there.

A checkpoint is written under a name that nothing reads, flushed to disk and then renamed; a kill at
any moment leaves the earlier checkpoints as they were and at most one unfinished folder, which the
next start removes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from manyeyes.errors import CheckpointError

STATE_FILE = "trainer_state.json"
_UNFINISHED = "unfinished-"
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to write into; it becomes ``folder`` when the block succeeds.

    Raises:
        CheckpointError: writing failed (full disk, quota, no permission); earlier checkpoints are
            untouched and the unfinished folder is gone.
    """
    aside = unfinished(folder)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        flush(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch.save reports a failed write as RuntimeError, safetensors as its own error
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"cannot write {folder}: {' '.join(str(error).split())}. Earlier checkpoints are intact"
        ) from error


def unfinished(folder: Path) -> Path:
    """Return the name under which ``folder`` is being written."""
    return folder.with_name(_UNFINISHED + folder.name)


def flush(folder: Path) -> None:
    """Ask the operating system to put every file under ``folder`` on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def remove_unfinished(folder: Path) -> None:
    """Remove what an interrupted save left under ``folder``."""
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


def keep_newest(folder: Path, limit: int | None) -> None:
    """Remove the oldest complete checkpoints beyond ``limit`` (None = keep all)."""
    if limit is not None and limit > 0:
        for path in checkpoints(folder)[:-limit]:
            shutil.rmtree(path, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step at which ``checkpoint`` was written."""
    return int(checkpoint.name.rpartition("-")[2])
