"""Captions as a person writes them: colour, shape, size, number and relations of the objects.

Texture, mark and exact place are never mentioned. The same rule holds in people's captions of
photographs: they name what is there and leave fine detail out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from manyeyes.world.language.words import (
    NUMBER_WORDS,
    RELATION_WORDS,
    capitalize,
    dominant_relation,
    join_phrases,
    plural,
    with_article,
)
from manyeyes.world.scene import Scene, WorldObject

SIZE_WORDS: tuple[dict[str, str], ...] = (
    {"small": "small ", "large": "large "},
    {"small": "small ", "large": "big "},
    {"small": "", "large": ""},
)
"""Ways of saying the size: one is drawn for a whole caption; the last one leaves sizes out."""

MOST_GROUPS = 6
"""A caption names at most this many kinds of objects; the rest become "other shapes"."""

Namer = Callable[[WorldObject], str]


def caption(scene: Scene, rng: Random) -> str:
    """Return one caption of ``scene``, drawn with ``rng``.

    Equal scenes and equal generator states give equal captions.
    """
    sizes = rng.choice(SIZE_WORDS)

    def name(item: WorldObject) -> str:
        return f"{sizes[item.size]}{item.color} {item.shape}"

    if not scene.objects:
        return "an empty picture"
    styles = [_listing, _sentence]
    if len(scene.objects) > 1:
        styles += [_counted, _related, _related]
    return rng.choice(styles)(scene, name, rng)


def captions(scene: Scene, rng: Random, number: int = 5) -> list[str]:
    """Return ``number`` captions of ``scene`` that all differ in wording.

    A scene without objects has one wording only, which is then repeated.
    """
    found: dict[str, None] = {}
    for _ in range(100 * number):
        found.setdefault(caption(scene, rng))
        if len(found) == number:
            break
    texts = list(found)
    return [texts[i % len(texts)] for i in range(number)]


def _grouped(items: Sequence[WorldObject], name: Namer, rng: Random) -> list[str]:
    """Return phrases such as "two red circles" for all ``items``, kinds in random order."""
    kinds = list(Counter(name(item) for item in items).items())
    rng.shuffle(kinds)
    phrases = [_quantity(kind, count) for kind, count in kinds[:MOST_GROUPS]]
    rest = sum(count for _, count in kinds[MOST_GROUPS:])
    return [*phrases, _quantity("other shape", rest)] if rest else phrases


def _quantity(kind: str, count: int) -> str:
    if count == 1:
        return "one other shape" if kind == "other shape" else with_article(kind)
    number = NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else str(count)
    return f"{number} {plural(kind)}"


def _listing(scene: Scene, name: Namer, rng: Random) -> str:
    """Write "a red circle, a blue square and two green crosses"."""
    lead = rng.choice(("", "", "a picture of ", "an image with ", "a drawing of "))
    return lead + join_phrases(_grouped(scene.objects, name, rng))


def _sentence(scene: Scene, name: Namer, rng: Random) -> str:
    """Write "There is a red circle and a blue square."."""
    phrases = _grouped(scene.objects, name, rng)
    first_is_one = phrases[0].startswith(("a ", "an "))
    there = "There is" if first_is_one else "There are"
    lead = rng.choice((there, "The image shows", "The picture contains", "I can see"))
    return f"{lead} {join_phrases(phrases)}."


def _counted(scene: Scene, name: Namer, rng: Random) -> str:
    """Write "three shapes: a red circle and two green crosses"."""
    noun = rng.choice(("shapes", "objects"))
    number = NUMBER_WORDS[min(len(scene.objects), len(NUMBER_WORDS) - 1)]
    listed = join_phrases(_grouped(scene.objects, name, rng))
    if rng.random() < 0.5:
        return f"{number} {noun}: {listed}"
    return f"There are {number} {noun}: {listed}."


def _related(scene: Scene, name: Namer, rng: Random) -> str:
    """Write "A red circle is above a blue square, and there is also a green cross."."""
    names = Counter(name(item) for item in scene.objects)
    singles = [item for item in scene.objects if names[name(item)] == 1]
    pairs = [
        (subject, relation, anchor)
        for subject in singles
        for anchor in singles
        if subject is not anchor and (relation := dominant_relation(scene, subject, anchor))
    ]
    if not pairs:
        return _listing(scene, name, rng)
    subject, relation, anchor = rng.choice(pairs)
    where = f"{RELATION_WORDS[relation]} {with_article(name(anchor))}"
    rest = [item for item in scene.objects if item is not subject and item is not anchor]
    if not rest and rng.random() < 0.5:
        return f"{with_article(name(subject))} {where}"
    sentence = f"{capitalize(with_article(name(subject)))} is {where}"
    if rest and rng.random() < 0.9:
        others = join_phrases(_grouped(rest, name, rng))
        sentence += f", and there {_be(others)} also {others}"
    return sentence + "."


def _be(phrase: str) -> str:
    return "is" if phrase.startswith(("a ", "an ", "one ")) else "are"
