"""Questions about sets of objects: how many, whether there are any, and which are more."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product
from random import Random

from manyeyes.world.language.object_questions import Question, answered
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
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "greater": operator.gt,
    "less": operator.lt,
    "equal": operator.eq,
}
_COMPARED_NAMES = ("color", "texture", "shape")
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

    Which attributes the description names is drawn before the truth, and only where both truths
    are possible, so that the wording gives nothing away. Most descriptions that fit nothing are
    hard: each of their words fits some object.
    """
    names = rng.choice(subsets(_names(rng), 1, 2))
    found = sorted({filters_of(item, names) for item in scene.objects})
    hard = rng.random() < _HARD_SHARE
    missing = _missing(scene, names, hard=hard) or _missing(scene, names, hard=False)
    if not missing:
        return None
    filters = rng.choice(found if rng.random() < 0.5 else missing)
    program = (*selection(filters), Step("exist", (len(filters),)))
    if rng.random() < 0.3:
        text = f"Are there any {noun_phrase(filters, many=True)}?"
    else:
        text = f"Is there {with_article(noun_phrase(filters))}?"
    return answered(text, "exist", program, scene)


def ask_comparison(scene: Scene, rng: Random) -> Question | None:
    """Ask which of two one-word sets is larger, or whether they are equally large.

    Both sets are not empty and are named by two values of one attribute. The comparison is drawn
    before the truth, and only where both truths are possible; yes and no are equally likely.
    """
    name = rng.choice(_COMPARED_NAMES)
    sizes = Counter(str(getattr(item, name)) for item in scene.objects)
    function = rng.choice(list(_COMPARISONS))
    pairs: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for one, other in permutations(sorted(sizes), 2):
        pairs[_COMPARE[function](sizes[one], sizes[other])].append((one, other))
    if not (pairs[True] and pairs[False]):
        return None
    first, second = (((name, value),) for value in rng.choice(pairs[rng.random() < 0.5]))
    words = (noun_phrase(first, many=True), noun_phrase(second, many=True))
    text = f"Are there {_COMPARISONS[function].format(*words)}?"
    return answered(text, "compare", _comparison(first, second, function), scene)


def _present(scene: Scene, rng: Random, wanted: int) -> Filters | None:
    """Return filters that ``wanted`` objects pass."""
    found = set()
    for item in scene.objects:
        for names in subsets(_names(rng), 0, 2):
            filters = filters_of(item, names)
            if len(select(filters, scene)) == wanted:
                found.add(filters)
    return rng.choice(sorted(found)) if found else None


def _absent(scene: Scene, rng: Random) -> Filters | None:
    """Return filters that no object passes, mostly of two words that fit separate objects."""
    choices = subsets(_names(rng), 1, 2)
    hard = rng.random() < _HARD_SHARE
    found = [f for names in choices for f in _missing(scene, names, hard=hard)]
    return rng.choice(found) if found else None


def _missing(scene: Scene, names: tuple[str, ...], *, hard: bool) -> list[Filters]:
    """Return all descriptions by ``names`` that fit nothing; ``hard``: each of their words fits."""
    found = []
    for values in product(*(_values(name, scene, hard) for name in names)):
        filters = tuple(zip(names, values, strict=True))
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
