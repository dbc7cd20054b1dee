"""The resumable order of training samples: one global order, whoever asks for which part of it.

    order(epoch)   a permutation of the epoch that depends on (seed, epoch) alone
    state          epoch, position in it, seed, fingerprint of the data, world size

The sampler yields the *global* order. Data loaders that split batches over ranks (accelerate's do:
batch t goes to rank t mod W) leave that order as it is, as long as batch size per rank times ranks
stays the same; so a run may resume on another number of ranks. Workers only fetch what they are
told, so their number does not matter either.

Indices are ``epoch * length + place``: a data set gets the epoch with every index and needs no
``set_epoch`` of its own, which its copies in worker processes would not hear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from manyeyes.data.counters import permutation, raw_numbers
from manyeyes.errors import CheckpointError, UsageError

Lengths = Callable[[int], Sequence[int] | NDArray[np.int64]]
"""Epoch number -> one length per place of that epoch."""

_BATCHES_PER_GROUP = 50


class ResumableSampler(Sampler[int]):
    """Global indices of one epoch after another, in an order that is a function of (seed, epoch).

    ``len(sampler)`` is always that of a full epoch. ``start_position`` (in samples, counted over
    all ranks) holds for ``start_epoch`` only, which is where iteration begins; after `set_epoch`
    to another epoch, iteration begins at 0 again.

    With ``transformers.Trainer``: return it from ``_get_train_sampler``. The Trainer calls
    `set_epoch` through accelerate. On resume either leave the Trainer to skip the batches already
    seen (it skips indices and decodes nothing), or set ``ignore_data_skip`` and `load_state_dict`;
    not both.

    Args:
        length: samples per epoch.
        seed: of the order.
        fingerprint: of the data (`manyeyes.data.mixture.fingerprint`); checked on resume.
        shuffle: off = in the order of the data set, which ``alternate`` mixtures need.
        lengths: turns on grouping by length: samples of one global batch are of similar length.
        batch_size: the global batch (over all ranks and accumulation steps), for the grouping.
        multiple_of: cut each epoch's order to a multiple of this many samples, so that no loader
            has to fill up its last batch. The samples left out differ from epoch to epoch.
        epoch_in_index: off = yield plain places 0..length-1.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        fingerprint: str = "",
        shuffle: bool = True,
        lengths: Lengths | None = None,
        batch_size: int = 1,
        multiple_of: int = 1,
        epoch_in_index: bool = True,
    ) -> None:
        if length < 1 or batch_size < 1 or multiple_of < 1:
            got = f"length {length}, batch_size {batch_size}, multiple_of {multiple_of}"
            raise UsageError(f"sizes must be at least 1, got {got}")
        if length < multiple_of:
            raise UsageError(f"{length} samples do not fill one batch of {multiple_of}")
        self.length = length
        self.seed = seed
        self.fingerprint = fingerprint
        self.shuffle = shuffle
        self.lengths = lengths
        self.batch_size = batch_size
        self.multiple_of = multiple_of
        self.epoch_in_index = epoch_in_index
        self.epoch = 0
        self.start_epoch = 0
        self.start_position = 0

    def __len__(self) -> int:
        return self.length - self.length % self.multiple_of

    def __iter__(self) -> Iterator[int]:
        order = self.order(self.epoch)
        first = self.start_position if self.epoch == self.start_epoch else 0
        offset = self.epoch * self.length if self.epoch_in_index else 0
        return (offset + int(place) for place in order[first:])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """All places of an epoch in the order in which they are visited."""
        if not self.shuffle:
            return np.arange(len(self), dtype=np.int64)
        order = permutation(self.length, self.seed, epoch)[: len(self)]
        return order if self.lengths is None else self._grouped(order, self.lengths(epoch), epoch)

    def state_dict(self, *, position: int, world_size: int) -> dict[str, Any]:
        """The state after ``position`` samples (over all ranks) of the current epoch.

        The position is the trainer's count of samples it has *used*: loaders fetch ahead, so the
        sampler itself cannot know it.
        """
        return {
            "epoch": self.epoch,
            "position": position,
            "seed": self.seed,
            "length": self.length,
            "fingerprint": self.fingerprint,
            "world_size": world_size,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a saved state. Its world size is for the record and may differ now.

        Raises:
            CheckpointError: keys are missing, or data, seed or length are not those of the state.
        """
        for key in ("epoch", "position", "seed", "length", "fingerprint"):
            if key not in state:
                raise CheckpointError(f"the data state has no {key!r}; it is from another program")
        for key in ("length", "seed", "fingerprint"):
            now = getattr(self, key)
            if state[key] != now:
                raise CheckpointError(
                    f"cannot continue the order of the data: its {key} was {state[key]!r} "
                    f"when the state was saved and is {now!r} now"
                )
        if not 0 <= state["position"] <= len(self):
            raise CheckpointError(
                f"position {state['position']} lies outside an epoch of {len(self)} samples"
            )
        self.epoch = self.start_epoch = int(state["epoch"])
        self.start_position = int(state["position"])

    def _grouped(
        self, order: NDArray[np.int64], per_place: Sequence[int] | NDArray[np.int64], epoch: int
    ) -> NDArray[np.int64]:
        """Sort by length within groups of 50 batches, then shuffle the batches of each group."""
        lengths = np.asarray(per_place)
        if len(lengths) != self.length:
            raise UsageError(f"expected {self.length} lengths, got {len(lengths)}")
        pieces = []
        span = self.batch_size * _BATCHES_PER_GROUP
        for number, start in enumerate(range(0, len(order), span)):
            group = order[start : start + span]
            group = group[np.argsort(-lengths[group], kind="stable")]
            full = len(group) // self.batch_size * self.batch_size
            batches = group[:full].reshape(-1, self.batch_size)
            keys = raw_numbers(len(batches), self.seed, epoch, number)
            pieces += [batches[np.argsort(keys, kind="stable")].ravel(), group[full:]]
        return np.concatenate(pieces)
