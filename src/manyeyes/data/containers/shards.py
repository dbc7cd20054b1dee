"""One name for many files: ``train-{000000..000009}.tar`` is ten shards, in order."""

from __future__ import annotations

import os
import re

from manyeyes.errors import DataError

MAX_SHARDS = 100_000

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_shards(name: str) -> list[str]:
    """The files that a name stands for; numbers keep the first one's leading zeros.

    Raises:
        DataError: several ranges, one that runs backwards, or more than ``MAX_SHARDS`` files.
    """
    ranges = _RANGE.findall(name)
    if not ranges or os.path.exists(name):
        return [name]
    if len(ranges) > 1:
        raise DataError("expected one range of shards, as train-{000..009}.tar", file=name)
    first, last = (int(number) for number in ranges[0])
    if not 0 <= last - first < MAX_SHARDS:
        raise DataError(f"expected a range of 1 to {MAX_SHARDS} shards", file=name)
    width = len(ranges[0][0])
    return [_RANGE.sub(f"{number:0{width}d}", name) for number in range(first, last + 1)]
