"""Lines of text files: only line ends end them, as in every editor and every JSON lines reader."""

from __future__ import annotations

import re

_END = re.compile(r"\r\n|\n|\r")


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text without their ends (``\n``, ``\r\n`` or ``\r``).

    ``str.splitlines`` also cuts at form feeds, U+2028 and the like, which may stand within a line.
    """
    lines = _END.split(text)
    return lines if lines[-1] else lines[:-1]


def duration_text(seconds: float) -> str:
    """Return a time as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
