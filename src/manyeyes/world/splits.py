"""The world's splits: which shape-colour pairs each may show, and their random streams.

``train``, ``val`` and ``test`` show the same kind of scene from disjoint random streams;
``compositional`` shows only pairs that the three never show; ``corner`` shows ordinary pairs in
pictures that are hard to read (see ``corrupt``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from manyeyes.errors import UsageError, nearest
from manyeyes.world.scene import COLORS, SHAPES, Color, Shape

SPLITS: dict[str, int] = {"train": 0, "val": 1, "test": 2, "compositional": 3, "corner": 4}
"""Split name to the number that separates its random stream from the others'."""

HELD_OUT: frozenset[tuple[Shape, Color]] = frozenset(
    {("circle", "yellow"), ("square", "cyan"), ("triangle", "red"), ("cross", "purple")}
)
"""Pairs of the compositional split. Every shape and every colour still occurs in training."""

_STREAMS = 4
_BLOCK = 128


def split_number(split: str) -> int:
    """Return the split's stream number; raise ``UsageError`` for an unknown split."""
    if split not in SPLITS:
        raise UsageError(
            f"unknown split {split!r}: expected one of {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    return SPLITS[split]


@cache
def allowed_pairs(split: str) -> tuple[tuple[Shape, Color], ...]:
    """Return the shape-colour pairs that objects of ``split`` are drawn from, in fixed order."""
    split_number(split)
    held_out = split == "compositional"
    return tuple((s, c) for s in SHAPES for c in COLORS if ((s, c) in HELD_OUT) == held_out)


def generator(seed: int, split: str, index: int, stream: int) -> np.random.Generator:
    """Return the counter-based generator of one scene; ``stream`` 0 is layout, 1 picture.

    The Philox key is (seed, split, stream; index), so scenes can be made in any order.
    """
    if seed < 0 or index < 0:
        raise UsageError(f"seed and index must not be negative, got seed={seed}, index={index}")
    high = (seed * len(SPLITS) + split_number(split)) * _STREAMS + stream
    return np.random.Generator(np.random.Philox(key=[high, index]))


def uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Yield endless numbers in [0, 1), drawn in blocks because single draws are slow."""
    while True:
        block: NDArray[np.float64] = rng.random(_BLOCK)
        yield from block.tolist()
