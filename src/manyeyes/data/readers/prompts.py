"""The fixed wordings with which annotation formats become conversations."""

from __future__ import annotations

from manyeyes.data.containers.rows import SourceOptions
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, Box, Point, Turn

CAPTION_PROMPT = "Describe the image."
GROUNDED_CAPTION_PROMPT = f"{CAPTION_PROMPT} Give the boxes of all objects."
DETECTION_PROMPT = "Which objects are in the image? Give their boxes."
NO_OBJECTS = "none"
REC_PROMPT = "Where is {expression}? Give its box."
REGION_PROMPT = f"What is at {BOXES_PLACEHOLDER}?"


def ask(
    question: str,
    boxes: tuple[tuple[Box, ...], ...] = (),
    points: tuple[tuple[Point, ...], ...] = (),
) -> Turn:
    """The user's turn: the image, then the question with its groups of boxes and points."""
    return Turn("user", f"{IMAGE_PLACEHOLDER}\n{question}", boxes, points=points)


def ask_caption(options: SourceOptions) -> Turn:
    """The user's turn that a caption answers."""
    return ask(CAPTION_PROMPT if options.caption_prompt is None else options.caption_prompt)


def say(
    answer: str,
    boxes: tuple[tuple[Box, ...], ...] = (),
    points: tuple[tuple[Point, ...], ...] = (),
) -> Turn:
    """The assistant's turn; one group per ``<boxes>`` and ``<points>`` of the answer."""
    return Turn("assistant", answer, boxes, points=points)


def box_answer(box: Box) -> Turn:
    """The assistant's turn that is one box and nothing else."""
    return say(BOXES_PLACEHOLDER, ((box,),))
