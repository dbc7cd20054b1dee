"""IconQA's files: ``annotations/{problems,pid_splits,pid2skills}.json``.

Questions with four fitting answers become ``choose_txt``, counts ``fill_in_blank``. Choices of
pictures are left out: no question of the world asks for one. The picture's file name stands under
``image``, which the official files do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manyeyes.world.emit.choices import ChoiceQuestion, choice_questions
from manyeyes.world.emit.split import SplitWorld, file_name
from manyeyes.world.emit.text import Files, json_bytes

_SKILLS = {
    "count": ("counting",),
    "related": ("spatial",),
    "shape": ("geometry",),
}
_OTHER_SKILL = ("pattern",)


def emit_iconqa(worlds: Sequence[SplitWorld]) -> Files:
    """Write problems, splits and skills of all splits together."""
    problems: dict[str, dict[str, Any]] = {}
    splits: dict[str, list[str]] = {}
    skills: dict[str, list[str]] = {}
    for world in worlds:
        for asked in choice_questions(world):
            pid, problem = str(asked.number), _problem(asked)
            problems[pid] = problem
            splits.setdefault(f"{problem['ques_type']}_{world.name}", []).append(pid)
            skills[pid] = list(_SKILLS.get(asked.question.kind, _OTHER_SKILL))
    contents = {"problems": problems, "pid_splits": splits, "pid2skills": skills}
    return {f"annotations/{name}.json": json_bytes(value) for name, value in contents.items()}


def _problem(asked: ChoiceQuestion) -> dict[str, Any]:
    problem = {"question": asked.question.text, "image": file_name(asked.scene)}
    if asked.question.kind == "count":
        answer: str | int = asked.question.answer
        return {**problem, "ques_type": "fill_in_blank", "answer": answer}
    choices = list(asked.options)
    return {**problem, "ques_type": "choose_txt", "choices": choices, "answer": asked.right}
