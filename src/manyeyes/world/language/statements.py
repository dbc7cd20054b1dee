"""Statements about two objects that are true or false, as in VSR (Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from manyeyes.world.language.object_questions import ask_relation
from manyeyes.world.language.programs import Program
from manyeyes.world.language.words import RELATION_WORDS
from manyeyes.world.scene import Scene

_TRIES = 8


@dataclass(frozen=True)
class Statement:
    """A sentence, whether it is true, the side it claims, and the program that checks it."""

    text: str
    true: bool
    relation: str
    program: Program


def statement(scene: Scene, rng: Random) -> Statement | None:
    """Return a statement such as "The red circle is above the blue square.", or None.

    True and false are equally likely; the two objects are never nearly level.
    """
    for _ in range(_TRIES):
        question = ask_relation(scene, rng)
        if question is None:
            continue
        side = question.program[-1].value
        words = RELATION_WORDS[side]
        subject, anchor = question.text[len("Is ") : -1].split(f" {words} ")
        text = f"{subject[0].upper()}{subject[1:]} is {words} {anchor}."
        return Statement(text, question.answer == "yes", side, question.program)
    return None
