"""Files and folders that appear whole or not at all.

What is written stands first beside its place, under a name that nothing reads
(``.NAME.HOST-PROCESS-NUMBER.unfinished``). It is put on disk and then renamed, so a reader finds
the old content or the new one. Nothing is removed before the new content stands in its place. An
error leaves nothing behind; a kill leaves an unfinished name, which the next program that writes
there removes. Source: ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from manyeyes.errors import WriteError
from manyeyes.files.refusals import UNFINISHED, naming

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_NUMBERS = itertools.count()
_LEFT = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-\d+" + re.escape(UNFINISHED))
_STALE_SECONDS = 86400.0
"""Age at which what another machine left is taken for dead."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces, as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; folders on the way are made.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data``, whole or not at all.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.
    """
    with written_file(path) as aside:
        aside.write_bytes(data)


@contextlib.contextmanager
def written_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; what is there at the end becomes the file ``path``.

    A link stays a link: the file that it names is replaced.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        raise WriteError("cannot be written: it exists and is not a file", file=str(path))
    aside = _aside(place)
    try:
        with naming(path):
            place.parent.mkdir(parents=True, exist_ok=True)
            _tidy_once(place.parent)
            yield aside
            _sync(aside)
            if place.exists():
                shutil.copymode(place, aside)
            aside.replace(place)
            _sync(place.parent)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _everything(name: str) -> bool:
    return True


@contextlib.contextmanager
def written_folder(
    folder: str | Path,
    *,
    ours: Callable[[str], bool] = _everything,
    aside: Path | None = None,
) -> Iterator[Path]:
    """Yield an empty folder to write into; its content becomes that of ``folder`` at the end.

    Args:
        ours: tells of a file of the earlier ``folder``, by its path inside, whether it goes. A file
            that is not ours stays, unless the new content has one of that name.
        aside: where the content is gathered, beside ``folder``; several processes can share it.

    Old and new content are exchanged in one step. Where the system cannot do that (network disks)
    two renames follow each other, and a kill between them leaves the old folder beside its place
    under a name that ends in ``.previous``. A mount point, or the current folder, cannot be
    renamed: there the files are exchanged one by one, and back again after an error.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.
    """
    place = Path(os.path.realpath(folder))
    if place.exists() and not place.is_dir():
        raise WriteError("cannot be written: it exists and is not a folder", file=str(folder))
    fixed = _cannot_move(place)
    work = aside or _aside(place / place.name if fixed else place)
    try:
        with naming(folder):
            work.parent.mkdir(parents=True, exist_ok=True)
            _tidy_once(work.parent)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            yield work
            sync_folder(work)
            if fixed:
                _put_files(work, place, ours)
            else:
                _put_folder(work, place, ours)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder as a whole: it is renamed first, so that a kill leaves no part of it.

    Raises:
        WriteError: it cannot be renamed.
    """
    aside = _aside(folder)
    with naming(folder, "removed"):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what programs that were killed had begun to write in ``folder``, not below it.

    What a process that still runs is writing stays; of another machine, what is a day old goes.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _LEFT.fullmatch(entry.name)
            if match and not _is_alive(match, entry):
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield the name of a folder to work in, beside ``beside``; it is removed at the end."""
    folder = _aside(beside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _aside(place: Path) -> Path:
    number = f"{os.getpid()}-{next(_NUMBERS)}"
    return place.with_name(f".{place.name[:40]}.{_HOST}-{number}{UNFINISHED}")


@functools.cache
def _tidy_once(folder: Path) -> None:
    remove_unfinished(folder)


def _is_alive(match: re.Match[str], entry: os.DirEntry[str]) -> bool:
    """Tell whether the process that is writing ``entry`` still runs."""
    if match["host"] != _HOST:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < _STALE_SECONDS
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a disk that has nothing to wait for
            raise
    finally:
        os.close(number)


def sync_folder(folder: Path) -> None:
    """Put a folder on disk with all in it, its files as readable as it is itself.

    safetensors writes files that only their owner can read.
    """
    readable = folder.stat().st_mode & 0o666
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        if path.is_file():
            path.chmod(path.stat().st_mode | readable)
        _sync(path)


def _cannot_move(place: Path) -> bool:
    return place.is_dir() and (place.is_mount() or Path.cwd().is_relative_to(place))


def _put_folder(new: Path, place: Path, ours: Callable[[str], bool]) -> None:
    """Let ``new`` take the place of a folder; afterwards ``new`` holds the old one, if any."""
    if place.is_dir() and any(place.iterdir()):
        _carry_over(place, new, ours)
        shutil.copymode(place, new)
        if not _exchange(new, place):
            _rename_both(new, place)
    else:
        new.rename(place)
    _sync(place.parent)


def _carry_over(old: Path, new: Path, ours: Callable[[str], bool]) -> None:
    """Give ``new`` the files of ``old`` that are not ours, as further names of the same files."""
    for root, folders, names in os.walk(old):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        for source in (Path(root, name) for name in (*names, *links)):
            inside = source.relative_to(old)
            target = new / inside
            if os.path.lexists(target) or ours(inside.as_posix()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError:  # a disk without such names
                shutil.copy2(source, target, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system has no such call."""
    libc = ctypes.CDLL(None)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(libc, "renameat2"):  # Linux: relative to the current folder, RENAME_EXCHANGE
        return bool(libc.renameat2(-100, names[0], -100, names[1], 2) == 0)
    if hasattr(libc, "renamex_np"):  # macOS: RENAME_SWAP
        return bool(libc.renamex_np(*names, 2) == 0)
    return False


def _rename_both(new: Path, place: Path) -> None:
    old = new.with_name(new.name.removesuffix(UNFINISHED) + ".previous")
    place.rename(old)
    try:
        new.rename(place)
    except OSError:
        old.rename(place)
        raise
    old.rename(new)


def _put_files(new: Path, place: Path, ours: Callable[[str], bool]) -> None:
    """Exchange the files of ``new`` for those of ``place``, all of them or none."""
    names = [path.name for path in new.iterdir()]
    for name in names:
        if (place / name).is_dir():
            _carry_over(place / name, new / name, functools.partial(_inside, ours, name))
    gone = [p.name for p in place.iterdir() if p.is_file() and p.name not in names and ours(p.name)]
    old = new / UNFINISHED
    old.mkdir()
    there = [name for name in (*names, *gone) if os.path.lexists(place / name)]
    moves = [(place / name, old / name) for name in there]
    moves += [(new / name, place / name) for name in names]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
    _sync(place)


def _inside(ours: Callable[[str], bool], folder: str, name: str) -> bool:
    return ours(f"{folder}/{name}")
