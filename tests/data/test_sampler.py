"""The resumable order: workers, ranks, stops and world sizes do not change it."""

from __future__ import annotations

import itertools

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader, Dataset

from manyeyes.data.sampler import ResumableSampler
from manyeyes.errors import CheckpointError, UsageError


class _Echo(Dataset[int]):
    """Returns the index it was asked for."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return index


def _epochs(sampler: ResumableSampler, count: int) -> list[list[int]]:
    orders = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    return orders


def test_each_epoch_is_another_permutation_with_the_epoch_in_its_indices() -> None:
    first, second = _epochs(ResumableSampler(50, seed=3), 2)
    assert sorted(first) == list(range(50))
    assert sorted(second) == list(range(50, 100))
    assert [index - 50 for index in second] != first
    assert _epochs(ResumableSampler(50, seed=3), 2) == [first, second]
    assert _epochs(ResumableSampler(50, seed=4), 1) != [first]
    plain = ResumableSampler(50, seed=3, epoch_in_index=False)
    assert _epochs(plain, 2) == [first, [index - 50 for index in second]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("grouped", [False, True])
def test_workers_do_not_change_the_order(grouped: bool) -> None:
    lengths = (lambda epoch: [index % 7 for index in range(24)]) if grouped else None
    seen = []
    for workers in (0, 1, 3):
        sampler = ResumableSampler(24, seed=1, lengths=lengths, batch_size=4)
        sampler.set_epoch(2)
        loader = DataLoader(_Echo(24), batch_size=4, sampler=sampler, num_workers=workers)
        seen.append([batch.tolist() for batch in loader])
    assert seen[0] == seen[1] == seen[2]
    assert sorted(itertools.chain(*seen[0])) == list(range(48, 72))


def _global_batches(sampler: ResumableSampler, world: int, global_batch: int) -> list[list[int]]:
    """What all ranks together see per step, with accelerate's own sharding."""
    per_rank = []
    for rank in range(world):
        batches = BatchSampler(sampler, global_batch // world, drop_last=True)
        per_rank.append(list(BatchSamplerShard(batches, world, rank)))
    return [list(itertools.chain(*step)) for step in zip(*per_rank, strict=True)]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_one_global_order(world: int) -> None:
    one = _global_batches(ResumableSampler(64, seed=5), 1, 8)
    many = _global_batches(ResumableSampler(64, seed=5), world, 8)
    assert many == one
    assert len(one) == 8


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 4), (4, 2), (2, 1)])
@pytest.mark.parametrize("lengths", [None, lambda epoch: list(range(40))])
def test_resume_at_any_step_on_any_number_of_ranks(
    before: int, after: int, lengths: object
) -> None:
    def make() -> ResumableSampler:
        return ResumableSampler(
            40,
            seed=9,
            fingerprint="f",
            lengths=lengths,
            batch_size=4,  # type: ignore[arg-type]
        )

    whole = make()
    straight = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        straight += _global_batches(whole, before, 4)
    for stop in range(len(straight)):
        epoch, step = divmod(stop, 10)
        whole.set_epoch(epoch)
        state = whole.state_dict(position=step * 4, world_size=before)
        again = make()
        again.load_state_dict(state)
        rest = []
        for later in range(epoch, 3):
            again.set_epoch(later)
            rest += _global_batches(again, after, 4)
        assert straight[:stop] + rest == straight


def test_a_stop_at_the_very_end_of_an_epoch_leaves_nothing_of_it() -> None:
    sampler = ResumableSampler(6)
    sampler.load_state_dict(sampler.state_dict(position=6, world_size=1))
    assert list(sampler) == []
    assert len(sampler) == 6
    sampler.set_epoch(1)
    assert len(list(sampler)) == 6


def test_grouping_puts_similar_lengths_together_and_loses_nothing() -> None:
    lengths = [(index * 37) % 101 for index in range(500)]
    sampler = ResumableSampler(500, lengths=lambda epoch: lengths, batch_size=10)
    order = list(sampler)
    assert sorted(order) == list(range(500))
    batches = [[lengths[i] for i in order[start : start + 10]] for start in range(0, 500, 10)]
    waste = sum(max(batch) * 10 - sum(batch) for batch in batches)
    plain = list(ResumableSampler(500))
    loose = [[lengths[i] for i in plain[start : start + 10]] for start in range(0, 500, 10)]
    assert waste < 0.1 * sum(max(batch) * 10 - sum(batch) for batch in loose)
    means = [sum(batch) for batch in batches]
    assert means != sorted(means, reverse=True)


def test_epochs_can_be_cut_to_whole_batches() -> None:
    sampler = ResumableSampler(10, multiple_of=4)
    first, second = _epochs(sampler, 2)
    assert len(sampler) == len(first) == len(second) == 8
    left_out = set(range(10)) - set(first), set(range(10)) - {index - 10 for index in second}
    assert left_out[0] != left_out[1]


def test_without_shuffle_the_order_is_that_of_the_data() -> None:
    assert list(ResumableSampler(5, shuffle=False)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "its seed was 1"),
        ({"fingerprint": "other"}, "its fingerprint was 'one'"),
        ({"length": 11}, "its length was 10"),
    ],
)
def test_resuming_on_other_data_is_refused(change: dict[str, object], message: str) -> None:
    options = {"length": 10, "seed": 1, "fingerprint": "one"}
    state = ResumableSampler(**options).state_dict(position=4, world_size=2)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message):
        ResumableSampler(**{**options, **change}).load_state_dict(state)  # type: ignore[arg-type]


def test_broken_states_and_sizes_are_refused() -> None:
    sampler = ResumableSampler(10)
    with pytest.raises(CheckpointError, match="no 'position'"):
        sampler.load_state_dict({"epoch": 0})
    with pytest.raises(CheckpointError, match="outside an epoch"):
        sampler.load_state_dict(sampler.state_dict(position=11, world_size=1))
    for options in ({"length": 0}, {"length": 3, "multiple_of": 4}, {"length": 3, "batch_size": 0}):
        with pytest.raises(UsageError):
            ResumableSampler(**options)
    with pytest.raises(UsageError, match="expected 10 lengths"):
        list(ResumableSampler(10, lengths=lambda epoch: [1, 2]))


def test_the_state_is_plain_data() -> None:
    state = ResumableSampler(10, fingerprint="f").state_dict(position=4, world_size=2)
    assert state == {
        "epoch": 0,
        "position": 4,
        "seed": 0,
        "length": 10,
        "fingerprint": "f",
        "world_size": 2,
    }
