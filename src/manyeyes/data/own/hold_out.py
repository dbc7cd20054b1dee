"""A share of own data held out for testing, split by image: no picture is on both sides.

Rows that share an image, or show copies of one, stay together. Rows without
an image are trained on. Which images are held out depends on their names and the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from manyeyes.errors import UsageError
from manyeyes.records import Sample


@dataclass(frozen=True)
class HeldOut:
    """Both sides of a split."""

    train: tuple[Sample, ...]
    test: tuple[Sample, ...]


def hold_out(
    samples: Sequence[Sample], share: float, seed: int, copies: Sequence[tuple[str, str]] = ()
) -> HeldOut:
    """Split samples so that about ``share`` of those with an image are held out.

    ``copies``: pairs of images that show the same.

    Raises:
        UsageError: a share that is not between 0 and 1, or too few images for both sides.
    """
    if not 0.0 < share < 1.0:
        raise UsageError(f"the held-out share must lie between 0 and 1, got {share:g}")
    images = list(dict.fromkeys(image for sample in samples for image in sample.images))
    groups = _joined(images, [*(s.images for s in samples), *copies])
    order = sorted(set(groups.values()), key=lambda name: (_draw(name, seed), name))
    if len(order) < 2:
        raise UsageError(
            f"{len(order)} picture(s) cannot be split into training and test: give --test"
        )
    held = _first(order, samples, groups, share)
    test = [s for s in samples if s.images and groups[s.images[0]] in held]
    train = [s for s in samples if not (s.images and groups[s.images[0]] in held)]
    return HeldOut(tuple(train), tuple(test))


def _first(
    order: Sequence[str], samples: Sequence[Sample], groups: Mapping[str, str], share: float
) -> set[str]:
    """The first groups that hold enough rows, but never all groups.

    A group that alone holds far too many is passed over; where all do, it is the smallest.
    """
    rows: dict[str, int] = {}
    for sample in samples:
        if sample.images:
            name = groups[sample.images[0]]
            rows[name] = rows.get(name, 0) + 1
    wanted, held, taken = share * sum(rows.values()), set[str](), 0
    fitting = [name for name in order if rows[name] / 2 <= wanted]
    for name in fitting if len(fitting) < len(order) else order[:-1]:
        if held and taken + rows[name] / 2 > wanted:
            break
        held.add(name)
        taken += rows[name]
    return held or {min(order, key=lambda name: rows[name])}


def _joined(images: Sequence[str], together: Iterable[Sequence[str]]) -> dict[str, str]:
    """Image -> the name of its group: the first in the alphabet of all that it is joined with."""
    parent = {image: image for image in images}

    def root(image: str) -> str:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for group in together:
        for image in group[1:]:
            low, high = sorted((root(group[0]), root(image)))
            parent[high] = low
    return {image: root(image) for image in images}


def _draw(name: str, seed: int) -> str:
    """Where an image comes in the order of a seed, wherever its folder lies."""
    return hashlib.sha256(
        f"{seed}|{name.replace(chr(92), '/').split('/')[-1]}".encode()
    ).hexdigest()
