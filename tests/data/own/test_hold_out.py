"""How much is held out where many pictures are one group, or all groups are large."""

from __future__ import annotations

import pytest

from manyeyes.data.own.hold_out import hold_out
from manyeyes.records import Sample


def rows(**counts: int) -> list[Sample]:
    """So many rows of each image."""
    return [
        Sample(f"{image}{number}", (image,), ())
        for image, count in counts.items()
        for number in range(count)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_a_group_of_most_pictures_is_not_held_out_whole(seed: int) -> None:
    """Eight of ten pictures look alike: 24 of 30 rows, of which 6 are wanted."""
    samples = rows(**{f"p{number}": 3 for number in range(10)})
    copies = [("p0", f"p{number}") for number in range(1, 8)]
    split = hold_out(samples, 0.2, seed, copies)
    assert {sample.images[0] for sample in split.test} == {"p8", "p9"}
    assert (len(split.train), len(split.test)) == (24, 6)


@pytest.mark.parametrize("seed", range(4))
def test_where_every_group_holds_too_many_the_smallest_is_held_out(seed: int) -> None:
    split = hold_out(rows(a=9, b=7, c=8), 0.1, seed)
    assert {sample.images for sample in split.test} == {("b",)}
    assert len(split.train) == 17


def test_groups_of_one_size_are_drawn_by_the_seed() -> None:
    """Ten pictures of three rows, six rows wanted: two pictures, and others by another seed."""
    samples = rows(**{f"p{number}": 3 for number in range(10)})
    drawn = [frozenset(s.images[0] for s in hold_out(samples, 0.2, n).test) for n in range(8)]
    assert {len(images) for images in drawn} == {2}
    assert len(set(drawn)) > 1
