"""What a system says when it refuses to write, as an error that names the path and why."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from manyeyes.errors import ManyEyesError, WriteError

UNFINISHED = ".unfinished"
"""End of the names under which things are written until they are whole."""

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than the system allows",
}
_SMALLEST_SPACE = 1 << 20
"""Bytes; with less free space a library that does not say why it failed found the disk full."""

_TORCH_WRITER = "inline_container.cc"
"""What ``torch.save`` says where a write fails: a place in its own source."""


@contextlib.contextmanager
def naming(path: str | Path, done: str = "written") -> Iterator[None]:
    """Turn the errors of a system that refuses to write into one that names ``path`` and why.

    What the block itself raises on purpose, and errors about files elsewhere, pass through.

    Raises:
        WriteError: the disk is full, a quota or permission is lacking, and the like.
    """
    try:
        yield
    except ManyEyesError:
        raise
    except Exception as error:
        if not _is_about(error, Path(os.path.realpath(path))):
            raise
        reason = f"cannot be {done}: {_reason(error, Path(path))}"
        raise WriteError(f"{reason}; what was there before is unchanged", file=str(path)) from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and those that it came from."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _is_about(error: Exception, place: Path) -> bool:
    """Tell a refusal to write ``place``, or what is gathered beside it, from any other error."""
    for one in _chain(error):
        if type(one).__name__ == "SafetensorError" or _TORCH_WRITER in str(one):
            return True
        if isinstance(one, OSError):
            if one.errno in _FULL or one.filename is None:
                return True
            name = Path(os.path.abspath(os.fsdecode(one.filename)))
            within = place.is_relative_to(name) or name.is_relative_to(place)
            return within or any(UNFINISHED in part for part in name.parts)
        if not isinstance(one, RuntimeError):
            return False
    return False


def _reason(error: Exception, path: Path) -> str:
    """Say why the system refused; libraries that hide the number have it in their text."""
    chain = _chain(error)
    text = " ".join(str(chain[0]).split()) or type(error).__name__
    for number, said in _FULL.items():
        words = (os.strerror(number), f"os error {number})", f"[Errno {number}]")
        if any(
            getattr(one, "errno", None) == number or any(word in str(one) for word in words)
            for one in chain
        ):
            return f"{said} ({os.strerror(number)})"
    with contextlib.suppress(OSError):
        near = next(parent for parent in path.absolute().parents if parent.is_dir())
        if shutil.disk_usage(near).free < _SMALLEST_SPACE:
            return f"{_FULL[errno.ENOSPC]} ({text})"
    system = next((one for one in chain if isinstance(one, OSError) and one.strerror), None)
    if system is None:
        return text
    at = "" if system.filename is None else os.fsdecode(system.filename)
    named = at and UNFINISHED not in at and at != str(path)
    return f"{system.strerror}: {at}" if named else str(system.strerror)
