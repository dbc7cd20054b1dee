"""Questions as programs over a scene, in CLEVR's manner: run the program and you have the answer.

A program is a row of steps; each step takes the results of earlier steps. A result is a set of
objects (a tuple of their positions in ``scene.objects``), a number, a truth value or a word. Steps
that would need a guess (``unique`` of two objects, "left of" when it is nearly level) raise
``ProgramError``; whoever writes a question rejects it then.

    scene                         -> all objects
    filter_<attribute> value      set -> set
    relate <side>                 set of one -> the objects on that side of it
    extreme <side>                set -> the one object farthest to that side
    unique                        set -> the same set, which must hold exactly one object
    count, exist                  set -> number, truth value
    query_<attribute>             set of one -> word
    equal, less, greater          number, number -> truth value
    beside <side>                 set of one, set of one -> truth value
    choose_larger "a|b"           set of one, set of one -> word a or b
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from manyeyes.errors import ManyEyesError
from manyeyes.world.language.words import ATTRIBUTES, RELATIONS, margin, offset
from manyeyes.world.scene import Scene

Objects = tuple[int, ...]
Result = Objects | int | bool | str


class ProgramError(ManyEyesError):
    """A program has no single answer on this scene, or is not a program."""


@dataclass(frozen=True)
class Step:
    """One operation: its name, the positions of the steps it reads, and its value if it has one."""

    function: str
    inputs: tuple[int, ...] = ()
    value: str = ""


Program = tuple[Step, ...]
Filters = tuple[tuple[str, str], ...]
"""(attribute, value) pairs that an object must all have."""


def execute(program: Sequence[Step], scene: Scene) -> Result:
    """Run ``program`` on ``scene`` and return the last step's result.

    Raises ``ProgramError`` where the scene gives no single answer, and for a malformed program.
    """
    if not program:
        raise ProgramError("a program needs at least one step")
    results: list[Result] = []
    for position, step in enumerate(program):
        if any(not 0 <= index < position for index in step.inputs):
            raise ProgramError(f"step {position} ({step.function}) reads a step not before it")
        results.append(_run(step, [results[index] for index in step.inputs], scene))
    return results[-1]


def answer_text(result: Result) -> str:
    """Write a program's result as a short answer: "yes"/"no", digits, or the word itself."""
    if isinstance(result, bool):
        return "yes" if result else "no"
    if isinstance(result, tuple):
        raise ProgramError("the program ends in a set of objects, not in an answer")
    return str(result)


def select(filters: Filters, scene: Scene) -> Objects:
    """Return the positions of all objects that pass ``filters``."""
    return tuple(
        position
        for position, item in enumerate(scene.objects)
        if all(getattr(item, name) == value for name, value in filters)
    )


def selection(filters: Filters, *, start: int = 0) -> Program:
    """Return the steps ``scene``, ``filter_*``... whose last result is the selected set.

    ``start`` is the position that the first step will have in the whole program.
    """
    steps = [Step("scene")]
    for name, value in filters:
        steps.append(Step(f"filter_{name}", (start + len(steps) - 1,), value))
    return tuple(steps)


def related(relation: str, anchor: int, scene: Scene) -> Objects:
    """Return the objects on the ``relation`` side of object ``anchor``, at least the margin away.

    Raises ``ProgramError`` when some object is nearly level with it.
    """
    found = []
    for position, item in enumerate(scene.objects):
        distance = offset(relation, item, scene.objects[anchor])
        if position != anchor and abs(distance) < margin(scene):
            raise ProgramError(f"objects {position} and {anchor} are nearly level")
        if distance > 0:
            found.append(position)
    return tuple(found)


def extreme(relation: str, objects: Objects, scene: Scene) -> Objects:
    """Return the one of ``objects`` farthest to the ``relation`` side, by at least the margin.

    Raises ``ProgramError`` when fewer than two objects compete or two are nearly level.
    """
    if len(objects) < 2:
        raise ProgramError("an extreme needs at least two objects")
    origin = scene.objects[objects[0]]
    ranked = sorted(objects, key=lambda i: offset(relation, scene.objects[i], origin), reverse=True)
    first, second = (scene.objects[index] for index in ranked[:2])
    if offset(relation, first, second) < margin(scene):
        raise ProgramError(f"objects {ranked[0]} and {ranked[1]} are nearly level")
    return (ranked[0],)


def _run(step: Step, inputs: list[Result], scene: Scene) -> Result:
    name, _, attribute = step.function.partition("_")
    if name in ("filter", "query") and attribute in ATTRIBUTES:
        if name == "query":
            return str(getattr(scene.objects[_one(inputs[0])], attribute))
        kept = select(((attribute, step.value),), scene)
        return tuple(index for index in _objects(inputs[0]) if index in kept)
    operation = _OPERATIONS.get(step.function)
    if operation is None:
        raise ProgramError(f"unknown operation {step.function!r}")
    return operation(step, inputs, scene)


def _objects(result: Result) -> Objects:
    if not isinstance(result, tuple):
        raise ProgramError(f"expected a set of objects, got {result!r}")
    return result


def _one(result: Result) -> int:
    objects = _objects(result)
    if len(objects) != 1:
        raise ProgramError(f"expected exactly one object, found {len(objects)}")
    return objects[0]


def _number(result: Result) -> int:
    if not isinstance(result, int):
        raise ProgramError(f"expected a number, got {result!r}")
    return result


def _beside(step: Step, inputs: list[Result], scene: Scene) -> bool:
    subject, anchor = (scene.objects[_one(result)] for result in inputs)
    distance = offset(_side(step), subject, anchor)
    if abs(distance) < margin(scene):
        raise ProgramError("the two objects are nearly level")
    return distance > 0


def _choose_larger(step: Step, inputs: list[Result], scene: Scene) -> str:
    first, second = (scene.objects[_one(result)].size for result in inputs)
    if first == second:
        raise ProgramError("the two objects are equally large")
    return step.value.split("|")[0 if first == "large" else 1]


def _side(step: Step) -> str:
    if step.value not in RELATIONS:
        raise ProgramError(f"expected a side out of {RELATIONS}, got {step.value!r}")
    return step.value


_OPERATIONS: dict[str, Callable[[Step, list[Result], Scene], Result]] = {
    "beside": _beside,
    "choose_larger": _choose_larger,
    "count": lambda step, inputs, scene: len(_objects(inputs[0])),
    "equal": lambda step, inputs, scene: _number(inputs[0]) == _number(inputs[1]),
    "exist": lambda step, inputs, scene: len(_objects(inputs[0])) > 0,
    "extreme": lambda step, inputs, scene: extreme(_side(step), _objects(inputs[0]), scene),
    "greater": lambda step, inputs, scene: _number(inputs[0]) > _number(inputs[1]),
    "less": lambda step, inputs, scene: _number(inputs[0]) < _number(inputs[1]),
    "relate": lambda step, inputs, scene: related(_side(step), _one(inputs[0]), scene),
    "scene": lambda step, inputs, scene: tuple(range(len(scene.objects))),
    "unique": lambda step, inputs, scene: (_one(inputs[0]),),
}
