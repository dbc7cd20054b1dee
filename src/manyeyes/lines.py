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
