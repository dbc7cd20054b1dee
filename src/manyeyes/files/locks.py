"""A folder that one process at a time may work in; a second one learns who that is.

The lock is the operating system's (``flock``) on a small file, which says who holds it. It ends
with its process, however that ends, so a kill leaves nothing to clear away. Source: ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from manyeyes.errors import InUseError
from manyeyes.files.refusals import naming

LOCK = ".manyeyes.lock"
"""File in a folder in which a process is working."""

_POLL_SECONDS = 0.1
_MOST_OF_COMMAND = 200
_HELD: set[int] = set()
"""File numbers of the locks of this process."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def held(folder: str | Path, *, beside: bool = False, seconds: float = 0.0) -> Iterator[None]:
    """Keep other processes, and other threads of this one, out of ``folder`` in a block.

    The folder is made; it goes again at the end where nothing was put into it.

    Args:
        beside: the lock lies beside the folder, which is to appear as a whole.
        seconds: how long to wait for another that holds it.

    Raises:
        InUseError: another one holds it; names the folder and who that is.
        WriteError: no file can be made there.
    """
    place = Path(os.path.realpath(folder))
    path = place.with_name(f".{place.name}.lock") if beside else place / LOCK
    made = not path.parent.exists()
    with naming(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        number = _patient(path, seconds)
    if number is None:
        raise InUseError(f"{folder} is in use by {_holder(path)}: wait until that ends")
    try:
        yield
    finally:
        _release(number, path)
        if made:
            with contextlib.suppress(OSError):  # it holds something, or is gone
                path.parent.rmdir()


def wait_until_free(folder: str | Path, seconds: float) -> None:
    """Wait for a process that is just ending its work in ``folder``.

    Raises:
        InUseError: it is still held after ``seconds``.
    """
    if (Path(folder) / LOCK).exists():
        with held(folder, seconds=seconds):
            pass


def _patient(path: Path, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while (number := _taken(path)) is None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return number


def _taken(path: Path) -> int | None:
    """Lock the file and say in it who did; None where another one has."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return None
        except OSError as error:  # a disk without locks
            logger.warning(
                "%s cannot be locked (%s): let no second process work there", path, error.strerror
            )
        if _is_file(number, path):
            break
        os.close(number)  # its last holder has just removed it
    _HELD.add(number)
    os.ftruncate(number, 0)
    os.write(number, json.dumps(_me()).encode())
    return number


def _is_file(number: int, path: Path) -> bool:
    """Tell whether an open file still bears its name."""
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except FileNotFoundError:
        return False


def _release(number: int, path: Path) -> None:
    if number not in _HELD:  # a child process leaves its parent's block
        return
    _HELD.discard(number)
    with contextlib.suppress(OSError):
        if _is_file(number, path):
            path.unlink()
    os.close(number)


def _forget() -> None:
    """Leave a parent's locks to the parent, which may end before this child."""
    for number in _HELD:
        os.close(number)
    _HELD.clear()


os.register_at_fork(after_in_child=_forget)


def _me() -> dict[str, str | int]:
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(words)[:_MOST_OF_COMMAND],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _holder(path: Path) -> str:
    """Say who holds a lock, as far as it has said so."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        where = "" if said["host"] == socket.gethostname() else f" on {said['host']}"
        return f"process {said['process']}{where} ({said['command']}; since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
