"""MMVP's pairs: ``mmvp/Questions.csv`` and ``mmvp/MMVP Images/{index}.png``.

The two pictures of a pair (1 and 2, 3 and 4, ...) differ in exactly one thing, and one question
with two options has another answer for each. A pair counts only if both are right. Patterns take
turns; made of the test split. Where the number of objects differs, so does the grain. The official
images are JPEG, which would blur marks of five pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.split import SplitWorld, evaluated, talk
from manyeyes.world.emit.text import Files, table_bytes
from manyeyes.world.language.object_questions import TEMPLATES
from manyeyes.world.language.phrases import describe, noun_phrase
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.scene import Scene
from manyeyes.world.splits import allowed_pairs

COLUMNS = ("Index", "Question", "Options", "Correct Answer")
LEAST_SHIFT = 12
"""Pixels by which a mirrored object moves at least."""


@dataclass(frozen=True)
class Twins:
    """Two scenes, the question about both, and its answer for each."""

    scenes: tuple[Scene, Scene]
    question: str
    answers: tuple[str, str]


def emit_mmvp(worlds: Sequence[SplitWorld]) -> Files:
    """Write a pair for every scene that allows the pattern whose turn it is, or the next one."""
    files: Files = {}
    rows: list[dict[str, object]] = []
    for turn, scene in enumerate(evaluated(worlds).scenes):
        rng = talk(scene, "mmvp")
        twins = _twins(scene, turn, rng)
        if twins is None:
            continue
        options = rng.sample(twins.answers, 2)
        for place in rng.sample((0, 1), 2):
            index = len(rows) + 1
            letter = "ab"[options.index(twins.answers[place])]
            listed = f"(a) {options[0]} (b) {options[1]}"
            values = (index, twins.question, listed, f"({letter})")
            rows.append(dict(zip(COLUMNS, values, strict=True)))
            files[f"mmvp/MMVP Images/{index}.png"] = png_bytes(twins.scenes[place])
    return {"mmvp/Questions.csv": table_bytes(COLUMNS, rows), **files}


def _twins(scene: Scene, turn: int, rng: Random) -> Twins | None:
    patterns = list(PATTERNS.values())
    first = turn % len(patterns)
    for make in (*patterns[first:], *patterns[:first]):
        twins = make(scene, rng)
        if twins is not None:
            return twins
    return None


def _attribute(name: str, scene: Scene, rng: Random) -> Twins | None:
    """Another value of one attribute of one object, which is named without it."""
    for position in rng.sample(range(len(scene.objects)), len(scene.objects)):
        item = scene.objects[position]
        filters = describe(scene, position, rng, without=(name,))
        pairs = allowed_pairs(scene.split)
        values = [
            value
            for value in ATTRIBUTES[name]
            if value != getattr(item, name) and (name != "color" or (item.shape, value) in pairs)
        ]
        if filters is not None and values:
            value = rng.choice(values)
            other = _with(scene, position, **{name: value})
            question = TEMPLATES[name][0].format(f"the {noun_phrase(filters)}")
            return Twins((scene, other), question, (str(getattr(item, name)), value))
    return None


def _count(scene: Scene, rng: Random) -> Twins | None:
    """One object fewer."""
    if len(scene.objects) < 2:
        return None
    fewer = replace(scene, objects=scene.objects[:-1])
    counts = (str(len(scene.objects)), str(len(fewer.objects)))
    return Twins((scene, fewer), "How many objects are there?", counts)


def _side(scene: Scene, rng: Random) -> Twins | None:
    """One object in the other half of the picture, at the same height, where there is room."""
    for position in rng.sample(range(len(scene.objects)), len(scene.objects)):
        item = scene.objects[position]
        mirrored = scene.width - 1 - item.x
        if abs(mirrored - item.x) < LEAST_SHIFT or not _is_free(scene, position, mirrored):
            continue
        filters = describe(scene, position, rng)
        if filters is None:
            continue
        box = (mirrored - item.radius, item.box[1], mirrored + item.radius + 1, item.box[3])
        other = _with(scene, position, x=mirrored, box=box)
        question = f"In which half of the picture is the {noun_phrase(filters)}?"
        sides = ("left", "right") if item.x < mirrored else ("right", "left")
        return Twins((scene, other), question, sides)
    return None


def _is_free(scene: Scene, position: int, x: int) -> bool:
    """Whether an object at ``x`` touches no other one; nor may it touch one where it is."""
    item = scene.objects[position]
    return all(
        abs(other.x - place) > other.radius + item.radius
        or abs(other.y - item.y) > other.radius + item.radius
        for number, other in enumerate(scene.objects)
        for place in (item.x, x)
        if number != position
    )


def _with(scene: Scene, position: int, **changes: object) -> Scene:
    objects = list(scene.objects)
    objects[position] = replace(objects[position], **changes)  # type: ignore[arg-type]
    return replace(scene, objects=tuple(objects))


PATTERNS: dict[str, Callable[[Scene, Random], Twins | None]] = {
    "mark": lambda scene, rng: _attribute("mark", scene, rng),
    "texture": lambda scene, rng: _attribute("texture", scene, rng),
    "color": lambda scene, rng: _attribute("color", scene, rng),
    "side": _side,
    "count": _count,
}
"""What the pictures of a pair differ in."""
