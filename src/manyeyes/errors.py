"""Every error manyeyes raises on purpose.

    ManyEyesError(ValueError)          exit code 1
    ├── UsageError                     exit code 2: the command line or an argument is wrong
    │   └── InUseError                 another process works in the folder
    ├── RecipeError                    a recipe holds an unknown key or an impossible value
    ├── DataError                      a data file or row is broken (carries its place)
    │   └── ImageError                 an image cannot be decoded, or is refused
    ├── PartError                      encoder, fusion and language model do not fit together
    ├── PlaceholderError               image tokens in the text and image features disagree
    ├── CheckpointError                a checkpoint is missing, damaged or belongs to another model
    ├── RequestError                   a request over HTTP is refused (carries its status)
    ├── WriteError                     a file or folder cannot be written: full disk, no permission
    └── NonFiniteError                 a loss or gradient is not finite; raised before the step

All are ``ValueError``s, because each one is about a value somebody passed in.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ManyEyesError(ValueError):
    """Base of all deliberate errors; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(ManyEyesError):
    """The command line, or the arguments of a call, make no sense together."""

    exit_code = 2


class InUseError(UsageError):
    """Another process works in a folder; wait for it, or choose another folder."""


class RecipeError(ManyEyesError):
    """A recipe holds an unknown key or an impossible value."""


class DataError(ManyEyesError):
    """A data file or one of its rows is broken.

    ``file``, ``line`` or ``entry``, and ``key`` say where, when known. Both are counted from 1: a
    line of a text file; an entry of what has none for each row, as a JSON array, parquet or tar.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        entry: int | None = None,
        key: str | None = None,
    ) -> None:
        self.file, self.line, self.entry, self.key = file, line, entry, key
        where = ":".join(str(part) for part in (file, line) if part is not None)
        if entry is not None:
            where = ", ".join(filter(None, (where, f"entry {entry}")))
        what = f"{key}: {message}" if key else message
        super().__init__(f"{where}: {what}" if where else what)


class ImageError(DataError):
    """An image cannot be decoded, or is refused (empty, truncated, too large)."""


class PartError(ManyEyesError):
    """Encoder, fusion, bridge and language model do not fit together."""


class PlaceholderError(PartError):
    """The image tokens in a sample's text and its image features disagree."""


class CheckpointError(ManyEyesError):
    """A checkpoint is missing, damaged, or was trained on other frozen parts."""


class WriteError(ManyEyesError):
    """A file or folder cannot be written: a full disk, a quota, no permission.

    ``file`` is what was to be written; what was there before is unchanged.
    """

    def __init__(self, message: str, *, file: str) -> None:
        self.file = file
        super().__init__(f"{file}: {message}")


class RequestError(ManyEyesError):
    """A request to the server is refused, or a server refuses ours.

    ``status``: of HTTP. ``code`` and ``param``: of the error object of the OpenAI API, when known.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        self.status, self.code, self.param = status, code, param
        super().__init__(message)


class NonFiniteError(ManyEyesError):
    """A loss or gradient is not finite. Raised before the optimizer acts."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name closest to ``name``, or ``""``."""
    close = difflib.get_close_matches(str(name)[:100], [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
