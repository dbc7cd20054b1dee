"""Draw scenes: ``sample_scene(split, index, seed)`` gives the same scene in any order of calls.

Layout rules: whole outlines inside the picture, centres at least ``MIN_DISTANCE`` apart, every
object keeps at least ``MIN_VISIBLE`` of its pixels and the whole of its mark. Objects that do not
fit are drawn again, small ones more readily than large ones, so crowded scenes hold more small
objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from manyeyes.errors import UsageError
from manyeyes.world.outlines import MARK_HALF, RADII, mark_drop, outline
from manyeyes.world.scene import (
    CORRUPTIONS,
    MARKS,
    TEXTURES,
    Color,
    Corruption,
    Mark,
    Scene,
    Shape,
    Size,
    Texture,
    WorldObject,
)
from manyeyes.world.splits import allowed_pairs, generator, uniforms

IMAGE_SIZE = 48
"""Width and height of an ordinary scene, in pixels."""

MAX_OBJECTS = 5
MIN_DISTANCE = 9
"""Smallest distance between two centres, in pixels."""

MIN_VISIBLE = 0.6
"""Smallest share of an object's pixels that stays uncovered."""

COUNT_WEIGHTS = (0.12, 0.2, 0.24, 0.24, 0.2)
"""Probability of 1 to 5 objects. Few single objects: they teach a contrastive encoder little."""

ODD_SIZES = ((64, 40), (40, 64), (72, 36), (56, 44), (44, 60))
"""(width, height) of the corner split's odd-sized pictures."""

_TRIES_PER_OBJECT = 24
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Look:
    shape: Shape
    color: Color
    texture: Texture
    mark: Mark


def sample_scene(split: str, index: int, seed: int = 0, *, count: int | None = None) -> Scene:
    """Return scene ``index`` of ``split`` in the world of ``seed``.

    ``count`` fixes the number of objects (1 to 5) instead of drawing it. Raises ``UsageError`` for
    an unknown split, a negative seed or index, or an impossible count.
    """
    if count is not None and not 1 <= count <= MAX_OBJECTS:
        raise UsageError(f"count must be from 1 to {MAX_OBJECTS}, got {count}")
    draws = uniforms(generator(seed, split, index, stream=0))
    corruption: Corruption = "none"
    width = height = IMAGE_SIZE
    if split == "corner":
        corruption = _pick(CORRUPTIONS[1:], draws)
        if corruption == "odd_size":
            width, height = _pick(ODD_SIZES, draws)
    drawn_count = count or _draw_count(draws)
    objects = _place_all(split, drawn_count, width, height, draws)
    return Scene(index, split, width, height, objects, corruption, seed)


def _pick(options: tuple[_T, ...], draws: Iterator[float]) -> _T:
    return options[int(next(draws) * len(options))]


def _between(low: int, high: int, draws: Iterator[float]) -> int:
    return low + int(next(draws) * (high - low + 1))


def _draw_count(draws: Iterator[float]) -> int:
    return int(np.searchsorted(np.cumsum(COUNT_WEIGHTS)[:-1], next(draws), side="right")) + 1


def _place_all(
    split: str, count: int, width: int, height: int, draws: Iterator[float]
) -> tuple[WorldObject, ...]:
    """Place ``count`` objects; start over when one finds no room."""
    while True:
        owner = np.full((height, width), -1, dtype=np.int8)
        placed: list[WorldObject] = []
        while len(placed) < count:
            new = _place_one(split, placed, owner, draws)
            if new is None:
                break
            placed.append(new)
        if len(placed) == count:
            visible = np.bincount(owner[owner >= 0], minlength=count)
            return tuple(replace(o, visible=int(visible[i])) for i, o in enumerate(placed))


def _place_one(
    split: str, placed: list[WorldObject], owner: NDArray[np.int8], draws: Iterator[float]
) -> WorldObject | None:
    """Find room for one more object and enter it into ``owner``; None when there is none.

    ``owner`` ``[height, width]`` holds the index of the frontmost object of each pixel, -1 = none.
    """
    shape, color = _pick(allowed_pairs(split), draws)
    look = _Look(shape, color, _pick(TEXTURES, draws), _pick(MARKS, draws))
    size: Size = "large" if next(draws) < 0.5 else "small"
    for attempt in range(_TRIES_PER_OBJECT):
        if attempt == _TRIES_PER_OBJECT // 2:
            size = "small"
        candidate = _candidate(look, size, owner.shape, draws)
        if _fits(candidate, placed, owner):
            _window(owner, candidate)[outline(shape, candidate.radius)] = len(placed)
            return candidate
    return None


def _candidate(
    look: _Look, size: Size, shape_hw: tuple[int, ...], draws: Iterator[float]
) -> WorldObject:
    height, width = shape_hw
    radius = _between(*RADII[size], draws)
    x = _between(radius, width - 1 - radius, draws)
    y = _between(radius, height - 1 - radius, draws)
    box = (float(x - radius), float(y - radius), float(x + radius + 1), float(y + radius + 1))
    area = int(outline(look.shape, radius).sum())
    return WorldObject(
        look.shape, look.color, size, look.texture, look.mark, x, y, radius, box, area, area
    )


def _window(owner: NDArray[np.int8], item: WorldObject) -> NDArray[np.int8]:
    r = item.radius
    return owner[item.y - r : item.y + r + 1, item.x - r : item.x + r + 1]


def _fits(new: WorldObject, placed: list[WorldObject], owner: NDArray[np.int8]) -> bool:
    """Centres far enough apart, and everything behind the new object still visible enough."""
    if any((new.x - o.x) ** 2 + (new.y - o.y) ** 2 < MIN_DISTANCE**2 for o in placed):
        return False
    if not placed:
        return True
    covered = _window(owner, new)[outline(new.shape, new.radius)]
    lost = np.bincount(covered[covered >= 0], minlength=len(placed))
    if not lost.any():
        return True
    kept = np.bincount(owner[owner >= 0], minlength=len(placed)) - lost
    enough = all(kept[i] >= MIN_VISIBLE * o.area for i, o in enumerate(placed))
    return enough and not any(lost[i] and _hides_mark(new, o) for i, o in enumerate(placed))


def _hides_mark(front: WorldObject, back: WorldObject) -> bool:
    """Whether ``front``'s outline covers part of the window of ``back``'s mark."""
    row = back.y + mark_drop(back.shape, back.radius) - front.y + front.radius
    column = back.x - front.x + front.radius
    rows = slice(max(row - MARK_HALF, 0), max(row + MARK_HALF + 1, 0))
    columns = slice(max(column - MARK_HALF, 0), max(column + MARK_HALF + 1, 0))
    return bool(outline(front.shape, front.radius)[rows, columns].any())
