"""Questions about sets of objects: how many, whether there are any, and which are more."""

from __future__ import annotations

from itertools import product
from random import Random

from manyeyes.world.language.asking import Question, answered
from manyeyes.world.language.phrases import filters_of, noun_phrase, subsets
from manyeyes.world.language.programs import Filters, Program, Step, select, selection
from manyeyes.world.language.words import ATTRIBUTES, with_article
from manyeyes.world.scene import Scene
from manyeyes.world.splits import allowed_pairs

_COUNT_TEMPLATES = ("How many {} are there?", "How many {} are in the image?")
_COUNT_WEIGHTS = {0: 8, 1: 10, 2: 12, 3: 15, 4: 25, 5: 30}
"""How often each number is wanted. High ones are wanted more, because few scenes have them."""

_COMPARISONS = {
    "greater": "more {} than {}",
    "less": "fewer {} than {}",
    "equal": "as many {} as {}",
}
_SET_NAMES = ("size", "color", "texture", "shape")
_HARD_SHARE = 0.7
_MARK_SHARE = 0.1


def ask_count(scene: Scene, rng: Random) -> Question | None:
    """Ask how many objects fit a description of up to two words, or how many there are at all."""
    wanted = rng.choices(list(_COUNT_WEIGHTS), list(_COUNT_WEIGHTS.values()))[0]
    filters = _absent(scene, rng) if wanted == 0 else _present(scene, rng, wanted)
    if filters is None:
        return None
    program = (*selection(filters), Step("count", (len(filters),)))
    text = rng.choice(_COUNT_TEMPLATES).format(noun_phrase(filters, many=True))
    return answered(text, "count", program, scene)


def ask_existence(scene: Scene, rng: Random) -> Question | None:
    """Ask whether there is an object of some description; yes and no are equally likely.

    Most descriptions that fit nothing are hard: each of their words fits some object.
    """
    filters = _present(scene, rng, None) if rng.random() < 0.5 else _absent(scene, rng)
    if not filters:
        return None
    program = (*selection(filters), Step("exist", (len(filters),)))
    if rng.random() < 0.3:
        text = f"Are there any {noun_phrase(filters, many=True)}?"
    else:
        text = f"Is there {with_article(noun_phrase(filters))}?"
    return answered(text, "exist", program, scene)


def ask_comparison(scene: Scene, rng: Random) -> Question | None:
    """Ask which of two one-word sets is larger, or whether they are equally large.

    Both sets are not empty and are named by different words.
    """
    names = rng.choices(("color", "shape", "size"), k=2)
    values = [str(getattr(rng.choice(scene.objects), name)) for name in names]
    if (names[0], values[0]) == (names[1], values[1]):
        return None
    first, second = ((names[0], values[0]),), ((names[1], values[1]),)
    difference = len(select(first, scene)) - len(select(second, scene))
    truths = {"greater": difference > 0, "less": difference < 0, "equal": difference == 0}
    wanted = rng.random() < 0.5
    function = rng.choice([name for name, truth in truths.items() if truth == wanted])
    words = (noun_phrase(first, many=True), noun_phrase(second, many=True))
    text = f"Are there {_COMPARISONS[function].format(*words)}?"
    return answered(text, "compare", _comparison(first, second, function), scene)


def _present(scene: Scene, rng: Random, wanted: int | None) -> Filters | None:
    """Return filters that ``wanted`` objects pass (None: any number above zero)."""
    found = set()
    for item in scene.objects:
        for names in subsets(_names(rng), 0 if wanted else 1, 2):
            filters = filters_of(item, names)
            if wanted is None or len(select(filters, scene)) == wanted:
                found.add(filters)
    return rng.choice(sorted(found)) if found else None


def _absent(scene: Scene, rng: Random) -> Filters | None:
    """Return filters that no object passes, mostly of two words that fit separate objects."""
    names = _names(rng)
    found = _missing(scene, names, hard=True) if rng.random() < _HARD_SHARE else []
    found = found or _missing(scene, names, hard=False)
    return rng.choice(found) if found else None


def _missing(scene: Scene, names: tuple[str, ...], *, hard: bool) -> list[Filters]:
    """Return all descriptions of up to two words that fit nothing; ``hard``: of words that do."""
    found = []
    for chosen in subsets(names, 2 if hard else 1, 2):
        for values in product(*(_values(name, scene, hard) for name in chosen)):
            filters = tuple(zip(chosen, values, strict=True))
            if not select(filters, scene) and _can_occur(filters, scene.split):
                found.append(filters)
    return found


def _can_occur(filters: Filters, split: str) -> bool:
    """Whether scenes of ``split`` may hold such an object: held-out pairs are never asked for."""
    words = dict(filters)
    if "shape" not in words or "color" not in words:
        return True
    return any(words["shape"] == s and words["color"] == c for s, c in allowed_pairs(split))


def _names(rng: Random) -> tuple[str, ...]:
    return (*_SET_NAMES, "mark") if rng.random() < _MARK_SHARE else _SET_NAMES


def _values(name: str, scene: Scene, hard: bool) -> list[str]:
    present = {str(getattr(item, name)) for item in scene.objects}
    return [value for value in ATTRIBUTES[name] if not hard or value in present]


def _comparison(first: Filters, second: Filters, function: str) -> Program:
    left = (*selection(first), Step("count", (len(first),)))
    start = len(left)
    right = (*selection(second, start=start), Step("count", (start + len(second),)))
    return (*left, *right, Step(function, (len(left) - 1, len(left) + len(right) - 1)))
