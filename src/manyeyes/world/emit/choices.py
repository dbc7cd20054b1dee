"""Questions with options, made of the split's questions; shared by the multiple-choice formats.

Wrong options are other answers that fit the kind of question. Which place is right is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_uppercase

from manyeyes.world.emit.split import SplitWorld, talk
from manyeyes.world.emit.vqa import asked
from manyeyes.world.language.object_questions import Question
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.sample import MAX_OBJECTS
from manyeyes.world.scene import Scene

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question of a scene with its id, its options and the place of the right one."""

    scene: Scene
    number: int
    question: Question
    options: tuple[str, ...]
    right: int

    @property
    def letter(self) -> str:
        """The letter of the right option."""
        return ascii_uppercase[self.right]


def choice_questions(
    world: SplitWorld, *, least: int = 4, most: int = 4
) -> Iterator[ChoiceQuestion]:
    """Yield the questions that have at least ``least`` fitting answers, with ``most`` options."""
    for scene, number, question in asked(world):
        others = [answer for answer in valid_answers(question) if answer != question.answer]
        if len(others) + 1 < least:
            continue
        rng = talk(scene, f"choices-{number}")
        options = [*rng.sample(others, min(most - 1, len(others))), question.answer]
        rng.shuffle(options)
        right = options.index(question.answer)
        yield ChoiceQuestion(scene, number, question, tuple(options), right)


def valid_answers(question: Question) -> tuple[str, ...]:
    """Return the answers that fit the kind of question, in a fixed order."""
    last = question.program[-1]
    if last.function.startswith("query_"):
        return ATTRIBUTES[last.function.removeprefix("query_")]
    if last.function == "choose_larger":
        return tuple(last.value.split("|"))
    if last.function == "count":
        return tuple(str(number) for number in range(MAX_OBJECTS + 1))
    return YES_NO
