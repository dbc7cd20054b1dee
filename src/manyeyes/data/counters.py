"""Randomness without state: every number is a function of integer keys and a position.

The bit stream of Philox is fixed by its definition (Salmon et al. 2011), so orders do not change
with the number of workers or ranks, with where a run was stopped, or with the NumPy version.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_WORD = 2**64


def permutation(length: int, *keys: int) -> NDArray[np.int64]:
    """A permutation of 0..length-1 that depends on the keys alone."""
    return np.argsort(raw_numbers(length, *keys), kind="stable").astype(np.int64)


def raw_numbers(length: int, *keys: int) -> NDArray[np.uint64]:
    """``length`` uniform 64-bit numbers from the counter-based generator with these keys."""
    return np.asarray(np.random.Philox(key=_philox_key(keys)).random_raw(length), dtype=np.uint64)


def mixed_seed(*keys: int) -> int:
    """One 63-bit seed out of several integers, as for one sample's augmentation."""
    return _digest(keys)[0] >> 1


def _philox_key(keys: tuple[int, ...]) -> NDArray[np.uint64]:
    return np.array(_digest(keys), dtype=np.uint64)


def _digest(keys: tuple[int, ...]) -> tuple[int, int]:
    text = ",".join(str(int(key)) for key in keys)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return number % _WORD, number // _WORD
