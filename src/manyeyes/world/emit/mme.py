"""MME's folders: ``mme/{subtask}/{number}.{png,txt}`` for existence, count, position and color.

Each text holds two questions about the picture beside it, one to be answered Yes and one No. MME
knows no splits, so the folders are made of the test split; the other ten subtasks (posters,
celebrities, code, ...) ask for things that are not in the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.split import SplitWorld, evaluated, talk
from manyeyes.world.emit.text import Files
from manyeyes.world.language.phrases import describe, noun_phrase
from manyeyes.world.language.presence import labels_in
from manyeyes.world.language.statements import statement
from manyeyes.world.language.words import NUMBER_WORDS, OPPOSITE, RELATION_WORDS, with_article
from manyeyes.world.sample import MAX_OBJECTS
from manyeyes.world.scene import COLORS, Scene
from manyeyes.world.splits import allowed_pairs

ENDING = " Please answer yes or no."

Pair = tuple[str, str]
"""A question that is answered Yes and one that is answered No."""


def emit_mme(worlds: Sequence[SplitWorld]) -> Files:
    """Write text and picture for every scene about which a subtask can ask."""
    files: Files = {}
    for scene in evaluated(worlds).scenes:
        picture = png_bytes(scene)
        for subtask, ask in SUBTASKS.items():
            pair = ask(scene, talk(scene, f"mme-{subtask}"))
            if pair is not None:
                stem = f"mme/{subtask}/{scene.index:06d}"
                lines = zip(pair, ("Yes", "No"), strict=True)
                text = "".join(f"{question}{ENDING}\t{answer}\n" for question, answer in lines)
                files |= {f"{stem}.txt": text.encode(), f"{stem}.png": picture}
    return files


def _existence(scene: Scene, rng: Random) -> Pair | None:
    present = labels_in(scene)
    pairs = (f"{color} {shape}" for shape, color in allowed_pairs(scene.split))
    absent = [label for label in pairs if label not in present]
    if not absent:
        return None
    labels = (rng.choice(present), rng.choice(absent))
    first, second = (f"Is there {with_article(label)} in this image?" for label in labels)
    return first, second


def _count(scene: Scene, rng: Random) -> Pair:
    there = len(scene.objects)
    other = rng.choice([number for number in range(1, MAX_OBJECTS + 1) if number != there])
    return _how_many(there), _how_many(other)


def _how_many(number: int) -> str:
    if number == 1:
        return "Is there only one object in this image?"
    return f"Are there {NUMBER_WORDS[number]} objects in this image?"


def _position(scene: Scene, rng: Random) -> Pair | None:
    claim = statement(scene, rng)
    if claim is None:
        return None
    words = RELATION_WORDS[claim.relation]
    first, _, second = claim.text.removesuffix(".").partition(f" is {words} ")
    true = claim.relation if claim.true else OPPOSITE[claim.relation]
    asked = [
        f"Is {first[0].lower()}{first[1:]} {RELATION_WORDS[side]} {second}?"
        for side in (true, OPPOSITE[true])
    ]
    return asked[0], asked[1]


def _color(scene: Scene, rng: Random) -> Pair | None:
    for position in rng.sample(range(len(scene.objects)), len(scene.objects)):
        filters = describe(scene, position, rng, without=("color",))
        if filters is not None:
            color = scene.objects[position].color
            other = rng.choice([name for name in COLORS if name != color])
            name = noun_phrase(filters)
            return f"Is the {name} {color}?", f"Is the {name} {other}?"
    return None


SUBTASKS: dict[str, Callable[[Scene, Random], Pair | None]] = {
    "existence": _existence,
    "count": _count,
    "position": _position,
    "color": _color,
}
"""Subtask to the function that asks about a scene, or returns None if it cannot."""
