"""Questions about single objects: their attributes, their sides, and which of two is larger."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from manyeyes.world.language.phrases import describe, filters_of, noun_phrase
from manyeyes.world.language.programs import (
    Filters,
    Program,
    ProgramError,
    Step,
    answer_text,
    execute,
    related,
    select,
    selection,
)
from manyeyes.world.language.words import RELATION_WORDS, RELATIONS, margin, offset
from manyeyes.world.scene import Scene

TEMPLATES: dict[str, tuple[str, ...]] = {
    "color": ("What color is {}?", "What is the color of {}?"),
    "mark": ("What mark is on {}?", "Which mark does {} have?"),
    "shape": ("What shape is {}?", "What is the shape of {}?"),
    "size": ("What size is {}?", "Is {} small or large?"),
    "texture": ("What texture does {} have?", "What is the texture of {}?"),
}
"""Wordings of a question for each attribute; the braces take the object."""

RELATED_ATTRIBUTES = ("color", "shape")


@dataclass(frozen=True)
class Question:
    """A question with its short answer, its kind, and the program that yields the answer."""

    text: str
    answer: str
    kind: str
    program: Program


def answered(text: str, kind: str, program: Program, scene: Scene) -> Question | None:
    """Return the question with the answer its program gives, or None if it gives no single one."""
    try:
        return Question(text, answer_text(execute(program, scene)), kind, program)
    except ProgramError:
        return None


def ask_attribute(attribute: str, scene: Scene, rng: Random) -> Question | None:
    """Ask for one attribute of one object, for example "What color is the small circle?".

    The answer is drawn first, evenly among the values that the scene shows.
    """
    present = {str(getattr(item, attribute)) for item in scene.objects}
    wanted = rng.choice(sorted(present))
    holders = select(((attribute, wanted),), scene)
    filters = describe(scene, rng.choice(holders), rng, without=(attribute,))
    if filters is None:
        return None
    text = rng.choice(TEMPLATES[attribute]).format(f"the {noun_phrase(filters)}")
    return answered(text, attribute, _query(attribute, _unique(filters)), scene)


def ask_related_attribute(scene: Scene, rng: Random) -> Question | None:
    """Ask for the colour or shape of the one object beside another: two hops.

    Degenerate ones are refused: without the second object the first would not be singled out.
    """
    attribute, side = rng.choice(RELATED_ATTRIBUTES), rng.choice(RELATIONS)
    anchor = rng.randrange(len(scene.objects))
    anchor_filters = describe(scene, anchor, rng)
    if anchor_filters is None:
        return None
    try:
        beside = related(side, anchor, scene)
    except ProgramError:
        return None
    if not beside:
        return None
    noun = ("shape",) if attribute != "shape" and rng.random() < 0.5 else ()
    filters = filters_of(scene.objects[rng.choice(beside)], noun)
    if len(select(filters, scene)) == 1:
        return None
    where = f"{RELATION_WORDS[side]} the {noun_phrase(anchor_filters)}"
    text = TEMPLATES[attribute][0].format(f"the {noun_phrase(filters)} {where}")
    program = _query(attribute, relate_program(anchor_filters, side, filters))
    return answered(text, "related", program, scene)


def ask_relation(scene: Scene, rng: Random) -> Question | None:
    """Ask whether one object is on a given side of another; yes and no are equally likely."""
    pair = _two_described(scene, rng)
    if pair is None:
        return None
    (subject, subject_filters), (anchor, anchor_filters) = pair
    clear = [
        side
        for side in RELATIONS
        if abs(offset(side, scene.objects[subject], scene.objects[anchor])) >= margin(scene)
    ]
    truth = rng.random() < 0.5
    sides = [
        side
        for side in clear
        if (offset(side, scene.objects[subject], scene.objects[anchor]) > 0) == truth
    ]
    if not sides:
        return None
    side = rng.choice(sides)
    text = (
        f"Is the {noun_phrase(subject_filters)} {RELATION_WORDS[side]}"
        f" the {noun_phrase(anchor_filters)}?"
    )
    return answered(text, "relation", beside_program(subject_filters, side, anchor_filters), scene)


def ask_larger(scene: Scene, rng: Random) -> Question | None:
    """Ask which of two objects is larger; the answer repeats one of the two names."""
    pair = _two_described(scene, rng, without=("size", "mark"))
    if pair is None:
        return None
    first, second = (noun_phrase(filters) for _, filters in pair)
    program = _pair_program(pair[0][1], pair[1][1], "choose_larger", f"{first}|{second}")
    return answered(f"Which is larger, the {first} or the {second}?", "larger", program, scene)


def relate_program(anchor: Filters, side: str, filters: Filters) -> Program:
    """Return the program of "the <filters> <side> of the <anchor>": the one such object."""
    steps = [*_unique(anchor)]
    steps.append(Step("relate", (len(steps) - 1,), side))
    for name, value in filters:
        steps.append(Step(f"filter_{name}", (len(steps) - 1,), value))
    return (*steps, Step("unique", (len(steps) - 1,)))


def beside_program(subject: Filters, side: str, anchor: Filters) -> Program:
    """Return the program of "is the <subject> <side> of the <anchor>?"."""
    return _pair_program(subject, anchor, "beside", side)


def _two_described(
    scene: Scene, rng: Random, *, without: tuple[str, ...] = ()
) -> tuple[tuple[int, Filters], tuple[int, Filters]] | None:
    if len(scene.objects) < 2:
        return None
    found = []
    for position in rng.sample(range(len(scene.objects)), 2):
        filters = describe(scene, position, rng, without=without)
        if filters is None:
            return None
        found.append((position, filters))
    return found[0], found[1]


def _unique(filters: Filters, *, start: int = 0) -> Program:
    steps = selection(filters, start=start)
    return (*steps, Step("unique", (start + len(steps) - 1,)))


def _query(attribute: str, program: Program) -> Program:
    return (*program, Step(f"query_{attribute}", (len(program) - 1,)))


def _pair_program(first: Filters, second: Filters, function: str, value: str) -> Program:
    left = _unique(first)
    right = _unique(second, start=len(left))
    ends = (len(left) - 1, len(left) + len(right) - 1)
    return (*left, *right, Step(function, ends, value))
