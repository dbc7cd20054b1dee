"""What is known of images beside the data, by path: each image's own, another's, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from manyeyes.data.counters import permutation
from manyeyes.errors import UsageError

T = TypeVar("T")


def shuffled(table: Mapping[str, T], seed: int, file: str) -> dict[str, T]:
    """Return the entries moved along a random circle of the images: none keeps its own.

    Raises:
        UsageError: less than two images; ``file`` is named.
    """
    if len(table) < 2:
        raise UsageError(f"{file}: what belongs to one image cannot be shuffled")
    paths = sorted(table)
    ring = [paths[place] for place in permutation(len(paths), seed)]
    return {path: table[other] for path, other in zip(ring, [*ring[1:], ring[0]], strict=True)}
