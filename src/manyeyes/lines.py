"""Text of files and for people: lines end at line ends alone; times and counts as they are said."""

from __future__ import annotations

import re
from decimal import Decimal

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


def count_text(count: float) -> str:
    """Return a number in three digits: ``1.86 M``; small ones as they are."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{number_text(count / size)} {unit}"
    return f"{count:g}"


def number_text(value: float, digits: int = 3) -> str:
    """Return a number to so many digits, never with an exponent: ``160``, ``1,230``."""
    return with_minus(f"{Decimal(f'{value:.{digits}g}'):,f}")


def with_minus(text: str) -> str:
    """Return a written number with the minus sign that all reports use, for the hyphen."""
    return text.replace("-", "−")
