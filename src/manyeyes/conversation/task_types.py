"""Which kind of task a question is: about a region, or about the whole image (LION §2.2).

The kind chooses the route through a mixture of adapters. It is what the sample or the caller says;
where neither does, the question's form decides (rule ours):

    region_level   the question holds boxes or points written as numbers, asks for a box, for
                   coordinates or to locate something, or begins with "find"
    image_level    every other question

The rule reads the last question only, as it is written for the language model, so that training and
inference agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from manyeyes.conversation.fusion_text import without_placeholders
from manyeyes.errors import UsageError, nearest

REGION, IMAGE = TASK_TYPES = ("region_level", "image_level")
"""Names of the task types, in the order of the routes: 0 and 1, as in the released code."""

_NAMES: Mapping[str, int] = {
    **dict.fromkeys((REGION, "region", "ref", "rec", "reg", "grounding", "detection"), 0),
    **dict.fromkeys((IMAGE, "image"), 1),
}
"""What a data record's task may say: the names of LION's records, and those of our readers."""

_NUMBER = r"\s*-?\d*\.?\d+\s*"
_REGION_FORM = re.compile(
    rf"\[{_NUMBER}(?:[,;]{_NUMBER})+\]"
    r"|\bbounding box(?:es)?\b|\bcoordinates?\b|\blocate\b|^\s*find\b"
    r"|\b(?:give|draw|mark|name|answer with)\b[^.?!]*\bbox(?:es)?\b",
    re.IGNORECASE,
)


def route_of(task: str | None, question: str) -> int:
    """Return the route of one sample; ``task``: what its record says, which may be anything.

    A task that says nothing about the kind (None, "vqa", "caption", ...) leaves it to the question.
    """
    known = _NAMES.get(task or "")
    return int(not _REGION_FORM.search(question)) if known is None else known


def routes_of(tasks: str | Sequence[str | None] | None, questions: Sequence[str]) -> list[int]:
    """Return one route per question; ``tasks``: what the caller says of all, or of each.

    Raises:
        UsageError: a task that is none of ``TASK_TYPES``, or another number of them than questions.
    """
    given = [tasks] * len(questions) if tasks is None or isinstance(tasks, str) else list(tasks)
    if len(given) != len(questions):
        raise UsageError(f"{len(given)} tasks for {len(questions)} questions")
    bare = [without_placeholders(text) for text in questions]
    return [route_of(_checked(task), text) for task, text in zip(given, bare, strict=True)]


def _checked(task: str | None) -> str | None:
    if task is not None and task not in TASK_TYPES:
        raise UsageError(
            f"unknown task type {task!r}{nearest(str(task), TASK_TYPES)}; task types: "
            f"{', '.join(TASK_TYPES)}"
        )
    return task
