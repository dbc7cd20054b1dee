"""The order of samples: the same for any number of ranks, exact from any position."""

from __future__ import annotations

import pytest

from manyeyes.data.sampler import ResumableSampler
from manyeyes.errors import CheckpointError
from manyeyes.training.loader import BatchPlan, EndlessOrder, RankBatches


def order(length: int = 10, seed: int = 3, fingerprint: str = "x") -> EndlessOrder:
    return EndlessOrder(ResumableSampler(length, seed=seed, fingerprint=fingerprint))


@pytest.mark.parametrize(("batch", "ranks", "accumulation"), [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_a_steps_samples_depend_on_the_global_batch_only(
    batch: int, ranks: int, accumulation: int
) -> None:
    plan = BatchPlan(batch, ranks, accumulation)
    parts = [RankBatches(order(), plan, rank, steps=5) for rank in range(ranks)]
    for step in range(5):
        together = sorted(index for part in parts for index in part.of_step(step))
        assert together == sorted(order()[position] for position in range(8 * step, 8 * step + 8))


def test_every_epoch_holds_every_place_once_in_another_order() -> None:
    endless = order()
    epochs = [[endless[p] - 10 * e for p in range(10 * e, 10 * e + 10)] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_iterating_gives_the_batches_of_the_whole_stage() -> None:
    batches = RankBatches(order(), BatchPlan(2, 2, 3), rank=1, steps=4)
    assert len(list(batches)) == len(batches) == 12
    assert list(batches)[4] == batches.batch(4)


def test_offset_shifts_every_position() -> None:
    assert list(BatchPlan(2, 2, 1, offset=5).positions(1, 3)) == [19, 20]


def test_saved_state_returns_the_position_and_refuses_other_data() -> None:
    state = order().state(samples_seen=27, world_size=1)
    assert (state["epoch"], state["position"]) == (2, 7)
    assert order().samples_seen(state) == 27
    with pytest.raises(CheckpointError, match="fingerprint"):
        order(fingerprint="y").samples_seen(state)
