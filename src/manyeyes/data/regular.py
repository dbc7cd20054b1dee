"""Data are read from ordinary files: pipes never end, devices give anything."""

from __future__ import annotations

import os
import stat

from manyeyes.errors import DataError


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what cannot be opened safely, before it is opened.

    Raises:
        DataError: no such file, or a folder, pipe, socket or device.
    """
    name = os.fspath(path)
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise DataError("no such file" if missing else str(error), file=name) from error
    if stat.S_ISDIR(mode):
        raise DataError("is a folder; expected a file", file=name)
    if not stat.S_ISREG(mode):
        raise DataError("is a pipe or a device; expected an ordinary file", file=name)
