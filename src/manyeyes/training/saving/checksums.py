"""Checksums of a checkpoint's files, by which damage is found before a run goes on with it.

Weights, configurations and random state have none of their own. Source: ours.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from manyeyes.errors import CheckpointError
from manyeyes.training.saving.resume_state import ADVICE, read_object

CHECKSUMS_FILE = "checksums.json"
_PIECE = 1 << 22


def write_checksums(folder: Path) -> None:
    """Note the CRC-32 of every file in ``folder``."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    sums = {name: _crc32(folder / name) for name in names if name != CHECKSUMS_FILE}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def check_checksums(folder: Path) -> None:
    """Compare the files of a checkpoint with what was noted; checkpoints of before have no note.

    Raises:
        CheckpointError: a file is another than it was; names it. Whoever reads a file that is
            missing says so.
    """
    note = folder / CHECKSUMS_FILE
    if not note.is_file():
        return
    for name, told in read_object(note).items():
        path = folder / name
        if path.is_file() and _crc32(path) != told:
            raise CheckpointError(f"{path}: damaged (not what its checksum says); {ADVICE}")


def _crc32(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found = zlib.crc32(piece, found)
    return found
