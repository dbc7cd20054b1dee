"""Several sources as one: where the i-th sample of epoch e comes from, without any random state.

    concatenate   every sample of every source once per epoch, source after source
    weighted      sources interleaved in proportion to their weights
    alternate     the same, block by block: each block of ``block_size`` from one source

In the last two modes a source's samples come in a new order on each pass over it, and an epoch goes
on where the one before stopped: a small share still reaches all of its samples over the epochs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from manyeyes.data.counters import permutation
from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.records import Sample

MODES = ("alternate", "concatenate", "weighted")
_KEPT_EPOCHS = 2  # workers that fetch ahead may straddle two epochs

Plan = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Source number and index within the source, for every place of one epoch."""


class Mixture:
    """A fixed-length epoch drawn from one or more sources of samples.

    Args:
        sources: sequences of samples; none empty.
        weights: one positive number per source (relative); absent = ``concatenate``.
        seed: changes the order within sources, not the shares.
        mode: one of ``MODES``; by default ``weighted`` if there are weights.
        length: samples per epoch of the weighted modes; by default that of all sources together.
        block_size: samples per block of ``alternate``: the global batch.

    ``len(mixture)`` is the epoch's length; ``mixture[i]`` is place i of epoch 0 and
    ``mixture.draw(epoch, i)`` of any epoch. Shares are exact to one sample (or one block).

    Raises:
        UsageError: weights, mode or sizes that make no sense.
        DataError: an empty source.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Sample]],
        weights: Sequence[float] | None = None,
        seed: int = 0,
        *,
        mode: str | None = None,
        length: int | None = None,
        block_size: int = 1,
    ) -> None:
        self.mode = mode or ("concatenate" if weights is None else "weighted")
        self.sources = list(sources)
        self.seed = seed
        self.block_size = block_size if self.mode == "alternate" else 1
        _check_sources(self.sources, self.mode, block_size)
        self.weights = _shares(self.sources, weights, self.mode)
        total = sum(len(source) for source in self.sources)
        self._length = total if length is None or self.mode == "concatenate" else length
        blocks = self._length // self.block_size
        if blocks < 1:
            got = f"{self._length} samples in blocks of {self.block_size}"
            raise UsageError(f"an epoch must hold at least one block, got {got}")
        self._length = blocks * self.block_size
        self._schedule = self._interleave(blocks)
        self._plans: dict[int, Plan] = {}
        self._lengths: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"place {index} of a mixture of {len(self)}")
        return self.draw(0, index % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def draw(self, epoch: int, index: int) -> Sample:
        """The sample at place ``index`` of an epoch."""
        source, place = self.locate(epoch, index)
        return self.sources[source][place]

    def locate(self, epoch: int, index: int) -> tuple[int, int]:
        """Source number and index within that source of one place of an epoch."""
        sources, places = self.plan(epoch)
        return int(sources[index]), int(places[index])

    def plan(self, epoch: int) -> Plan:
        """`locate` for a whole epoch, as two arrays of the epoch's length."""
        if epoch not in self._plans:
            if len(self._plans) >= _KEPT_EPOCHS:
                self._plans.pop(min(self._plans))
            self._plans[epoch] = self._make_plan(epoch)
        return self._plans[epoch]

    def lengths(self, epoch: int) -> NDArray[np.int64]:
        """A rough length per place of an epoch (see `sample_length`), for grouping by length."""
        if self._lengths is None:
            every = (sample_length(sample) for source in self.sources for sample in source)
            self._lengths = np.fromiter(every, dtype=np.int64)
        offsets = np.cumsum([0, *(len(source) for source in self.sources)])
        sources, places = self.plan(epoch)
        return self._lengths[offsets[sources] + places]

    def fingerprint(self) -> str:
        """Hash of all samples, shares and orders: equal only if every epoch is equal."""
        digest = hashlib.sha256()
        setup = (self.mode, self._length, self.block_size, self.weights)
        digest.update(repr((*setup, None if self.mode == "concatenate" else self.seed)).encode())
        for source in self.sources:
            digest.update(fingerprint(source).encode())
        return digest.hexdigest()

    def _interleave(self, blocks: int) -> NDArray[np.int64]:
        """The source of every block: source s has its k-th at time (k + 1/2) / share of s."""
        if self.mode == "concatenate":
            counts = [len(source) for source in self.sources]
            return np.repeat(np.arange(len(self.sources)), counts)
        times, owners = [], []
        for source, share in enumerate(self.weights):
            count = math.ceil(share * blocks) + 1
            times.append((np.arange(count) + 0.5) / share)
            owners.append(np.full(count, source))
        order = np.argsort(np.concatenate(times), kind="stable")[:blocks]
        return np.concatenate(owners)[order].astype(np.int64)

    def _make_plan(self, epoch: int) -> Plan:
        sources = np.repeat(self._schedule, self.block_size)
        places = np.empty(self._length, dtype=np.int64)
        for source in range(len(self.sources)):
            mine = np.flatnonzero(sources == source)
            places[mine] = self._order_within(source, epoch * len(mine), len(mine))
        return sources, places

    def _order_within(self, source: int, start: int, count: int) -> NDArray[np.int64]:
        """Indices of draws start..start+count-1 of one source, pass after pass."""
        size = len(self.sources[source])
        if self.mode == "concatenate":
            return np.arange(count, dtype=np.int64)
        first, last = start // size, (start + max(count, 1) - 1) // size
        passes = [permutation(size, self.seed, source, turn) for turn in range(first, last + 1)]
        skip = start - first * size
        return np.concatenate(passes)[skip : skip + count]


def sample_length(sample: Sample) -> int:
    """Rough length of a sample: words of its turns.

    Images are left out: they are of equal length, or, seen in tiles, of one that their files say.
    """
    return sum(len(turn.text.split()) for turn in sample.turns)


def fingerprint(samples: Sequence[Sample] | Mixture) -> str:
    """Hash of ids, image file names, turns and tags in order, wherever the images lie."""
    if isinstance(samples, Mixture):
        return samples.fingerprint()
    digest = hashlib.sha256()
    for sample in samples:
        names = tuple(path.replace("\\", "/").rsplit("/", 1)[-1] for path in sample.images)
        turns = tuple((t.role, t.text, t.boxes, t.points, t.box_image) for t in sample.turns)
        seen = () if sample.objects is None else (sample.objects,)
        tags = () if sample.tags is None else ("tags", sample.tags)
        digest.update(repr((sample.id, names, turns, *seen, *tags)).encode())
    return digest.hexdigest()


def _check_sources(sources: Sequence[Sequence[Sample]], mode: str, block_size: int) -> None:
    if mode not in MODES:
        known = ", ".join(MODES)
        raise UsageError(f"unknown mixture mode {mode!r}{nearest(mode, MODES)}; known: {known}")
    if not sources:
        raise UsageError("a mixture needs at least one source")
    for number, source in enumerate(sources, start=1):
        if not len(source):
            raise DataError(f"source {number} of {len(sources)} of the mixture is empty")
    if block_size < 1:
        raise UsageError(f"block_size must be at least 1, got {block_size}")


def _shares(
    sources: Sequence[Sequence[Sample]], weights: Sequence[float] | None, mode: str
) -> tuple[float, ...]:
    """Weights that sum to 1; in proportion to the sources' sizes where none are given."""
    if mode == "concatenate" and weights is not None:
        raise UsageError("mode 'concatenate' takes every sample once and no weights")
    chosen = [float(len(source)) for source in sources] if weights is None else list(weights)
    if len(chosen) != len(sources):
        raise UsageError(f"expected {len(sources)} weights, one per source, got {len(chosen)}")
    for weight in chosen:
        if not (math.isfinite(weight) and weight > 0):
            raise UsageError(f"weights must be positive numbers, got {weight}")
    return tuple(weight / sum(chosen) for weight in chosen)
