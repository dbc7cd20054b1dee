"""Folders that are made again later carry our mark; what has none is never replaced."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from manyeyes.errors import UsageError
from manyeyes.files.replacing import written_folder

MARK = ".manyeyes.json"
"""File in a folder that we may make again: it lists what we put there."""


@contextlib.contextmanager
def marked_folder(folder: str | Path) -> Iterator[Path]:
    """As `written_folder`, for a folder of ours that may be made again: it gets our mark.

    Files in it that the mark does not list are somebody else's, and stay.

    Raises:
        UsageError: the folder holds something and has no mark. WriteError: see `written_folder`.
    """
    listed = check_mark(folder)
    with written_folder(folder, ours=listed.__contains__) as aside:
        yield aside
        names = sorted(
            path.relative_to(aside).as_posix()
            for path in aside.rglob("*")
            if not path.is_dir() and path.name != MARK
        )
        mark = {"made_by": "manyeyes", "files": [*names, MARK]}
        (aside / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")


def check_mark(folder: str | Path) -> frozenset[str]:
    """Return which files of ``folder`` are ours by its mark; none where nothing is.

    Raises:
        UsageError: it holds something, and has no mark or a broken one.
    """
    place = Path(folder)
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return frozenset()
    try:
        found = json.loads((place / MARK).read_text(encoding="utf-8"))["files"]
        return frozenset(str(name) for name in found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} would be replaced, but it was not made by this program (it has no {MARK}): "
            "move it away, or choose another folder"
        ) from error


def refuse_unless_empty(folder: Path) -> None:
    """Refuse a folder to write that is there already and holds something.

    Raises:
        UsageError: it is no folder, or not an empty one.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder: choose a new one")


def check_outputs(folder: Path, record: str, keys: Collection[str], *others: str) -> None:
    """Refuse a folder where files that we did not write have the names of those to be written.

    Args:
        record: the file, a JSON object with ``keys``, by which earlier work of this kind is known.
        others: what is written beside it.

    Raises:
        UsageError: another file stands in the place of the record, or one of ``others`` without it.
    """
    if os.path.lexists(folder / record):
        if not _holds(_read(folder / record), keys):
            raise _foreign(folder / record)
        return
    for path in (folder / name for name in others):
        if os.path.lexists(path):
            raise _foreign(path)


def check_rows(path: Path, keys: Collection[str]) -> None:
    """Refuse to replace a file whose first line is not a JSON object with ``keys``.

    Raises:
        UsageError: it is another file.
    """
    if os.path.lexists(path):
        text = _read(path)
        if not _holds(text[: text.find("\n")], keys):
            raise _foreign(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _holds(text: str, keys: Collection[str]) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= set(keys)


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} would be replaced, but this command has not written it: move it away, or choose "
        "another place with --out"
    )
