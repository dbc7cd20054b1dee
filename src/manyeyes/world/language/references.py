"""Referring expressions: the fewest words that name one object and no other.

Three ways, as people do it: by what it looks like ("the small red circle"), by its side of another
object ("the circle to the left of the red square"), and by its place among its like ("the leftmost
circle"). The program of an expression returns the set that holds exactly the one object.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from manyeyes.world.language.object_questions import relate_program
from manyeyes.world.language.phrases import describe, filters_of, noun_phrase, subsets
from manyeyes.world.language.programs import (
    Filters,
    Program,
    ProgramError,
    Step,
    execute,
    select,
    selection,
)
from manyeyes.world.language.words import RELATION_WORDS, RELATIONS
from manyeyes.world.scene import Scene

EXTREME_WORDS: dict[str, str] = {
    "left": "leftmost",
    "right": "rightmost",
    "above": "topmost",
    "below": "lowest",
}
_WAYS = ("look", "look", "look", "side", "extreme")


@dataclass(frozen=True)
class Reference:
    """An expression, the position of the object it names, and the program that finds it."""

    text: str
    target: int
    program: Program


def refer(scene: Scene, target: int, rng: Random) -> Reference | None:
    """Return an expression that names object ``target`` of ``scene``, or None if none was found."""
    ways = list(dict.fromkeys([rng.choice(_WAYS), *_WAYS]))
    for way in ways:
        reference = _WRITERS[way](scene, target, rng)
        if reference is not None and _resolves(reference, scene):
            return reference
    return None


def references(scene: Scene, rng: Random) -> list[Reference]:
    """Return one expression for every object that can be named, in random order of objects."""
    order = rng.sample(range(len(scene.objects)), len(scene.objects))
    found = (refer(scene, target, rng) for target in order)
    return [reference for reference in found if reference is not None]


def _resolves(reference: Reference, scene: Scene) -> bool:
    try:
        return execute(reference.program, scene) == (reference.target,)
    except ProgramError:
        return False


def _by_look(scene: Scene, target: int, rng: Random) -> Reference | None:
    filters = describe(scene, target, rng)
    if filters is None:
        return None
    program = (*selection(filters), Step("unique", (len(filters),)))
    return Reference(f"the {noun_phrase(filters)}", target, program)


def _by_side(scene: Scene, target: int, rng: Random) -> Reference | None:
    """Name it by its side of another object, if it is not named by its own words already."""
    others = [index for index in range(len(scene.objects)) if index != target]
    if not others:
        return None
    anchor_filters = describe(scene, rng.choice(others), rng)
    filters = _shared_words(scene, target, rng)
    if anchor_filters is None or filters is None:
        return None
    side = rng.choice(RELATIONS)
    where = f"{RELATION_WORDS[side]} the {noun_phrase(anchor_filters)}"
    program = relate_program(anchor_filters, side, filters)
    return Reference(f"the {noun_phrase(filters)} {where}", target, program)


def _by_extreme(scene: Scene, target: int, rng: Random) -> Reference | None:
    filters = _shared_words(scene, target, rng)
    if filters is None:
        return None
    side = rng.choice(RELATIONS)
    program = (*selection(filters), Step("extreme", (len(filters),), side))
    return Reference(f"the {EXTREME_WORDS[side]} {noun_phrase(filters)}", target, program)


def _shared_words(scene: Scene, target: int, rng: Random) -> Filters | None:
    """Return up to two words that fit the target and at least one other object."""
    found = []
    for names in subsets(("color", "shape"), 0, 2):
        filters = filters_of(scene.objects[target], names)
        if len(select(filters, scene)) > 1:
            found.append(filters)
    return rng.choice(found) if found else None


_WRITERS = {"look": _by_look, "side": _by_side, "extreme": _by_extreme}
