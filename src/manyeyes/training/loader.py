"""From the stage's endless sample order to one rank's micro-batches.

Micro-batches are cut from the order so that the samples of optimizer step u do not depend on the
number of ranks, only on the global batch: with W ranks and micro-batches of b samples, local batch
j of rank r holds positions (jW + r)b ... (jW + r)b + b - 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Sampler

from manyeyes.data.sampler import ResumableSampler
from manyeyes.errors import CheckpointError


class EndlessOrder:
    """Which row of the data set stands at each position of training, epoch after epoch.

    Positions are a function of the sampler's seed alone, so any of them can be asked for at once.
    """

    def __init__(self, sampler: ResumableSampler) -> None:
        self.sampler = sampler
        self._epoch, self._places = 0, sampler.order(0)

    @property
    def epoch_length(self) -> int:
        """Number of positions that make one epoch."""
        return len(self.sampler)

    def __getitem__(self, position: int) -> int:
        """Return the data set's index at ``position``."""
        epoch, place = divmod(position, self.epoch_length)
        if epoch != self._epoch:
            self._epoch, self._places = epoch, self.sampler.order(epoch)
        return epoch * self.sampler.length + int(self._places[place])

    def state(self, samples_seen: int, world_size: int) -> dict[str, Any]:
        """Return what a checkpoint must say about the order after ``samples_seen`` samples."""
        epoch, position = divmod(samples_seen, self.epoch_length)
        self.sampler.set_epoch(epoch)
        state = self.sampler.state_dict(position=position, world_size=world_size)
        return {**state, "samples_seen": samples_seen}

    def samples_seen(self, state: Mapping[str, Any]) -> int:
        """Return the position that ``state`` was saved at.

        Raises:
            CheckpointError: it belongs to other data, or another order of them, or is damaged.
        """
        self.sampler.load_state_dict(state)
        seen = int(state["samples_seen"])
        if seen != state["epoch"] * self.epoch_length + state["position"]:
            raise CheckpointError(
                f"the data state is damaged: sample {seen} is not position {state['position']} of "
                f"epoch {state['epoch']}"
            )
        return seen


@dataclass(frozen=True)
class BatchPlan:
    """How the order is cut: micro-batch size, ranks, accumulation, and where it starts.

    ``offset`` is added to every position; it is not 0 only after resuming with another global
    batch, so that no sample is skipped or repeated.
    """

    batch_size: int
    ranks: int
    accumulation: int
    offset: int = 0

    @property
    def global_batch(self) -> int:
        """Samples per optimizer step."""
        return self.batch_size * self.ranks * self.accumulation

    def positions(self, rank: int, local_batch: int) -> range:
        """Return the positions of a rank's micro-batch number ``local_batch``."""
        start = self.offset + (local_batch * self.ranks + rank) * self.batch_size
        return range(start, start + self.batch_size)


class RankBatches(Sampler[list[int]]):
    """Batch sampler of one rank for a whole stage: ``steps`` optimizer steps, no epochs."""

    def __init__(self, order: EndlessOrder, plan: BatchPlan, rank: int, steps: int) -> None:
        self.order, self.plan, self.rank, self.steps = order, plan, rank, steps

    def __len__(self) -> int:
        return self.steps * self.plan.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for local_batch in range(len(self)):
            yield self.batch(local_batch)

    def batch(self, local_batch: int) -> list[int]:
        """Return the data set's indices of one micro-batch."""
        return [self.order[position] for position in self.plan.positions(self.rank, local_batch)]

    def of_step(self, step: int) -> list[int]:
        """Return the indices of this rank's share of optimizer step ``step`` (0, 1, ...)."""
        first = step * self.plan.accumulation
        batches = range(first, first + self.plan.accumulation)
        return [index for local_batch in batches for index in self.batch(local_batch)]
