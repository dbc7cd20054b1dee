"""Questions about a scene, each with its program and the answer that the program gives.

A question is kept only if it passes CLEVR's three checks: it is unambiguous (its program has one
answer on the scene), it is not degenerate (every part of it is needed), and answers are balanced
(the wanted answer is drawn first, then a question that has it; if there is none, none is asked).
Answers are short: a lower-case word or phrase, or digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from manyeyes.errors import UsageError, nearest
from manyeyes.world.language.object_questions import (
    Question,
    ask_attribute,
    ask_larger,
    ask_related_attribute,
    ask_relation,
)
from manyeyes.world.language.set_questions import ask_comparison, ask_count, ask_existence
from manyeyes.world.scene import Scene

Asker = Callable[[Scene, Random], Question | None]

QUESTION_KINDS: dict[str, Asker] = {
    "color": lambda scene, rng: ask_attribute("color", scene, rng),
    "compare": ask_comparison,
    "count": ask_count,
    "exist": ask_existence,
    "larger": ask_larger,
    "mark": lambda scene, rng: ask_attribute("mark", scene, rng),
    "related": ask_related_attribute,
    "relation": ask_relation,
    "shape": lambda scene, rng: ask_attribute("shape", scene, rng),
    "size": lambda scene, rng: ask_attribute("size", scene, rng),
    "texture": lambda scene, rng: ask_attribute("texture", scene, rng),
}
"""Question type to the function that asks such a question, or returns None if it cannot."""

_TRIES = 3


def ask(kind: str, scene: Scene, rng: Random) -> Question | None:
    """Return a question of one kind (a key of ``QUESTION_KINDS``), or None if the scene has none.

    Raises ``UsageError`` for an unknown kind.
    """
    if kind not in QUESTION_KINDS:
        known = ", ".join(QUESTION_KINDS)
        raise UsageError(
            f"unknown question kind {kind!r}{nearest(kind, QUESTION_KINDS)}; known: {known}"
        )
    return QUESTION_KINDS[kind](scene, rng)


def questions(
    scene: Scene, rng: Random, number: int, *, kinds: Sequence[str] | None = None
) -> list[Question]:
    """Return up to ``number`` different questions about ``scene``, kinds taken in turn.

    Fewer come back when the scene is too simple for more.
    """
    order = list(QUESTION_KINDS if kinds is None else kinds)
    rng.shuffle(order)
    found: dict[str, Question] = {}
    for turn in range(_TRIES * max(number, len(order))):
        if len(found) == number:
            break
        question = ask(order[turn % len(order)], scene, rng)
        if question is not None:
            found.setdefault(question.text, question)
    return list(found.values())
