"""Noun phrases: "small red circles", "the striped object with a ring", and which are unique.

A phrase is written from filters; the same filters select the objects, so words and program agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from itertools import combinations
from random import Random

from manyeyes.world.language.programs import Filters
from manyeyes.world.language.words import ATTRIBUTES, plural
from manyeyes.world.scene import Scene, WorldObject

NAMING_ATTRIBUTES = ("size", "color", "texture", "shape")
"""Attributes that stand before or as the noun; a mark follows it."""

_MARK_SHARE = 0.15
_NOUN_SHARE = 0.65
_PREFERENCE = {"shape": 3, "color": 3, "size": 2, "texture": 1, "mark": 1}


def noun_phrase(filters: Filters, *, many: bool = False) -> str:
    """Write ``filters`` as a noun phrase without article: "small red circle with a ring"."""
    values = dict(filters)
    noun = values.get("shape", "object")
    adjectives = [values[name] for name in NAMING_ATTRIBUTES[:3] if name in values]
    phrase = " ".join([*adjectives, plural(noun) if many else noun])
    mark = values.get("mark")
    if mark is None:
        return phrase
    return f"{phrase} without a mark" if mark == "none" else f"{phrase} with a {mark}"


def filters_of(item: WorldObject, names: Collection[str]) -> Filters:
    """Return the filters that ``item`` passes, for the attributes in ``names``, in word order."""
    return tuple((name, str(getattr(item, name))) for name in ATTRIBUTES if name in names)


def describe(
    scene: Scene, position: int, rng: Random, *, without: Collection[str] = ()
) -> Filters | None:
    """Return filters that single out object ``position``, not using the attributes ``without``.

    Minimal ones: every adjective is needed, while the shape may be named although "object" would
    do. As people do, colour is preferred, then size. None when no such filters exist (another
    object looks the same).
    """
    names: tuple[str, ...] = NAMING_ATTRIBUTES[:3]
    if rng.random() < _MARK_SHARE:
        names = (*names, "mark")
    allowed = tuple(name for name in names if name not in without)
    nouns = ("shape",) if "shape" not in without else ()
    found = []
    if rng.random() >= _NOUN_SHARE:
        found = _unique_filters(scene, position, allowed, ())
    found = found or _unique_filters(scene, position, allowed, nouns)
    if not found:
        return None
    weights = [min(_PREFERENCE[name] for name, _ in filters) for filters in found]
    return rng.choices(found, weights)[0]


def _unique_filters(
    scene: Scene, position: int, names: tuple[str, ...], nouns: tuple[str, ...]
) -> list[Filters]:
    """The minimal filters that only object ``position`` passes. Sets of objects are bits."""
    item, own, every = scene.objects[position], 1 << position, (1 << len(scene.objects)) - 1
    alike = {name: _objects_like(item, name, scene) for name in names + nouns}
    found = []
    for chosen in subsets(names):
        words = chosen + nouns
        if words and _passing(alike, words, every) == own:
            shorter = [tuple(word for word in words if word != left) for left in chosen]
            if all(_passing(alike, rest, every) != own for rest in shorter):
                found.append(filters_of(item, words))
    return found


def _objects_like(item: WorldObject, name: str, scene: Scene) -> int:
    """The objects that have ``item``'s value of an attribute; bit i stands for object i."""
    value, bits = getattr(item, name), 0
    for place, other in enumerate(scene.objects):
        if getattr(other, name) == value:
            bits |= 1 << place
    return bits


def _passing(alike: Mapping[str, int], words: Iterable[str], among: int) -> int:
    for word in words:
        among &= alike[word]
    return among


@cache
def subsets(names: tuple[str, ...], least: int = 0, most: int = 5) -> tuple[tuple[str, ...], ...]:
    """Return all choices of ``least`` to ``most`` out of ``names``, small ones first."""
    sizes = range(least, min(most, len(names)) + 1)
    return tuple(chosen for size in sizes for chosen in combinations(names, size))
