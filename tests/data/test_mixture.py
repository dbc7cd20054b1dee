"""Mixtures: exact shares, all samples reached, orders that depend on the seed alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from manyeyes.data.counters import mixed_seed, permutation
from manyeyes.data.mixture import Mixture, fingerprint, sample_length
from manyeyes.errors import DataError, UsageError
from manyeyes.records import Sample, Turn


def _source(name: str, size: int) -> list[Sample]:
    turns = (Turn("user", "x"), Turn("assistant", "y z"))
    return [Sample(f"{name}{index}", (), turns) for index in range(size)]


def _ids(mixture: Mixture, epoch: int = 0) -> list[str]:
    return [mixture.draw(epoch, index).id for index in range(len(mixture))]


def test_concatenation_takes_every_sample_once_in_order() -> None:
    mixture = Mixture([_source("a", 3), _source("b", 2)])
    assert [sample.id for sample in mixture] == ["a0", "a1", "a2", "b0", "b1"]
    assert _ids(mixture, 5) == _ids(mixture, 0)
    assert mixture[-1].id == "b1"
    with pytest.raises(IndexError):
        mixture[5]


def test_weighted_shares_are_exact_at_every_point_of_the_epoch() -> None:
    shares = (0.7, 0.2, 0.1)
    mixture = Mixture([_source(n, 40) for n in "abc"], (7, 2, 1), length=1000)
    drawn = np.array([mixture.locate(0, index)[0] for index in range(1000)])
    for until in (10, 33, 100, 1000):
        counts = np.bincount(drawn[:until], minlength=3)
        assert np.abs(counts - until * np.array(shares)).max() <= 1
    assert np.bincount(drawn).tolist() == [700, 200, 100]


def test_every_pass_over_a_source_visits_all_of_it_and_goes_on_over_epochs() -> None:
    mixture = Mixture([_source("a", 90), _source("b", 30)], (9, 1), seed=4, length=100)
    drawn = [id_ for epoch in range(3) for id_ in _ids(mixture, epoch) if id_.startswith("b")]
    assert len(drawn) == 30
    assert sorted(drawn) == sorted(f"b{index}" for index in range(30))
    assert drawn != sorted(drawn, key=lambda id_: int(id_[1:]))
    assert Counter(i for i in _ids(mixture) if i.startswith("a")).most_common(1)[0][1] == 1


def test_small_sources_repeat_evenly() -> None:
    mixture = Mixture([_source("a", 3), _source("b", 50)], (1, 1), length=100)
    counts = Counter(id_ for id_ in _ids(mixture) if id_.startswith("a"))
    assert set(counts) == {"a0", "a1", "a2"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_orders_depend_on_seed_and_pass_only() -> None:
    def order(seed: int, epoch: int) -> list[str]:
        mixture = Mixture([_source("a", 20), _source("b", 20)], (1, 1), seed, length=40)
        return _ids(mixture, epoch)

    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)


def test_asking_in_any_order_of_epochs_gives_the_same() -> None:
    make = lambda: Mixture([_source("a", 7), _source("b", 5)], (2, 1), length=9)  # noqa: E731
    forward, backward = make(), make()
    first = {epoch: _ids(forward, epoch) for epoch in range(6)}
    assert {epoch: _ids(backward, epoch) for epoch in reversed(range(6))} == first


def test_alternate_fills_each_block_from_one_source() -> None:
    mixture = Mixture([_source("a", 16), _source("b", 16)], (1, 1), mode="alternate", block_size=4)
    blocks = [_ids(mixture)[start : start + 4] for start in range(0, 32, 4)]
    names = [{id_[0] for id_ in block} for block in blocks]
    assert names == [{"a"}, {"b"}] * 4
    assert sorted(_ids(mixture)) == sorted(s.id for n in "ab" for s in _source(n, 16))


def test_fingerprints_tell_data_and_shares_apart_but_not_folders() -> None:
    a, b = _source("a", 3), _source("b", 3)
    prints = {
        Mixture([a, b]).fingerprint(),
        Mixture([b, a]).fingerprint(),
        Mixture([a, b], (1, 1)).fingerprint(),
        Mixture([a, b], (1, 2)).fingerprint(),
        Mixture([a, b], (1, 1), seed=1).fingerprint(),
        Mixture([a, b[:2]]).fingerprint(),
    }
    assert len(prints) == 6
    assert fingerprint(Mixture([a, b])) == Mixture([a, b]).fingerprint()
    here, there = (Sample("x", (f"{root}/pic.png",), a[0].turns) for root in ("/a", "/b/c"))
    other = Sample("x", ("/a/pic2.png",), a[0].turns)
    assert fingerprint([here]) == fingerprint([there]) != fingerprint([other])


def test_lengths_follow_the_plan() -> None:
    turns = (Turn("user", "one two three"),)
    mixture = Mixture([_source("a", 4), [Sample("long", (), turns * 3)]], (1, 1), length=8)
    expected = [sample_length(mixture.draw(2, index)) for index in range(8)]
    assert mixture.lengths(2).tolist() == expected
    assert set(expected) == {3, 9}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": (1,)}, "expected 2 weights"),
        ({"weights": (1, 0)}, "positive"),
        ({"weights": (1, float("nan"))}, "positive"),
        ({"mode": "wieghted"}, "did you mean 'weighted'"),
        ({"mode": "concatenate", "weights": (1, 1)}, "no weights"),
        ({"mode": "alternate", "block_size": 0}, "block_size"),
        ({"mode": "alternate", "block_size": 99}, "at least one block"),
    ],
)
def test_impossible_mixtures(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mixture([_source("a", 3), _source("b", 3)], **options)  # type: ignore[arg-type]


def test_empty_sources() -> None:
    with pytest.raises(DataError, match="source 2 of 2"):
        Mixture([_source("a", 3), []])
    with pytest.raises(UsageError, match="at least one source"):
        Mixture([])


def test_permutations_are_fixed_for_good() -> None:
    assert permutation(8, 0, 0).tolist() == FIXED
    assert sorted(permutation(1000, 3, 7).tolist()) == list(range(1000))
    assert permutation(50, 1, 2).tolist() != permutation(50, 12).tolist()
    assert mixed_seed(1, 2, 3) == mixed_seed(1, 2, 3) < 2**63
    assert len({mixed_seed(0, epoch, place) for epoch in range(9) for place in range(99)}) == 891


FIXED = [6, 0, 4, 2, 1, 5, 3, 7]
