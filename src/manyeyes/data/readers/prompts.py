"""The fixed wordings with which annotation formats become conversations."""

from __future__ import annotations

from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, Box, Turn

CAPTION_PROMPT = "Describe the image."
DETECTION_PROMPT = "Which objects are in the image? Give their boxes."
NO_OBJECTS = "none"
REC_PROMPT = "Where is {expression}? Give its box."


def ask(question: str) -> Turn:
    """The user's turn: the image, then the question."""
    return Turn("user", f"{IMAGE_PLACEHOLDER}\n{question}")


def say(answer: str, boxes: tuple[tuple[Box, ...], ...] = ()) -> Turn:
    """The assistant's turn; one group of boxes per ``<boxes>`` of the answer."""
    return Turn("assistant", answer, boxes)


def box_answer(box: Box) -> Turn:
    """The assistant's turn that is one box and nothing else."""
    return say(BOXES_PLACEHOLDER, ((box,),))
