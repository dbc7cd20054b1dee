"""Conversations to strings, and which characters of a string are the assistant's.

Rendering goes through Jinja chat templates only, so training and inference cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from manyeyes.boxes import format_boxes, format_points
from manyeyes.errors import DataError, RecipeError, UsageError
from manyeyes.prompts import PROMPT_STYLES, STYLES_WITH_INPUT
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, POINTS_PLACEHOLDER, Turn

_PLACEHOLDER_LINE = re.compile(f"{IMAGE_PLACEHOLDER}\\n?")
_PLACEHOLDERS = re.compile(f"{BOXES_PLACEHOLDER}|{POINTS_PLACEHOLDER}")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. ``spans``: character ranges [first, last) the model must write.

    ``add_special_tokens``: the tokenizer still has to add its own (a model's own chat template
    already writes them).
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    add_special_tokens: bool

    def supervises(self, first: int, last: int) -> bool:
        """Whether a token over the characters [first, last) is the assistant's."""
        return any(first < stop and last > start for start, stop in self.spans)


def turns_to_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Return turns as chat messages with string content; ``input`` holds a turn's context."""
    return [
        {
            "role": turn.role,
            "content": turn.text,
            **({"input": turn.context} if turn.context else {}),
        }
        for turn in turns
    ]


def add_contexts(turns: Sequence[Turn], contexts: Sequence[str]) -> list[Turn]:
    """Give every turn the texts of the images whose placeholders stand in it.

    ``contexts``: one text per image of the conversation, "" = none. Where there are several images
    each text says which one it is about. Placeholders without a text are left alone.
    """
    several = len(contexts) > 1
    named = [
        f"Image {n}: {text}" if several and text else text for n, text in enumerate(contexts, 1)
    ]
    first, found = 0, []
    for turn in turns:
        last = first + turn.text.count(IMAGE_PLACEHOLDER)
        found.append(replace(turn, context="\n".join(filter(None, named[first:last]))))
        first = last
    return found


def write_boxes(turn: Turn, image_sizes: Sequence[tuple[int, int]], style: str) -> Turn:
    """Replace every ``<boxes>`` and ``<points>`` of a turn by its numbers as text in ``style``.

    ``image_sizes``: (width, height) of the sample's images.

    Raises:
        DataError: placeholders and groups disagree, or boxes without an image.
    """
    wanted = (BOXES_PLACEHOLDER, len(turn.boxes)), (POINTS_PLACEHOLDER, len(turn.points))
    for placeholder, groups in wanted:
        if turn.text.count(placeholder) != groups:
            raise DataError(
                f"{turn.text.count(placeholder)} {placeholder} placeholders, but {groups} groups "
                f"of {placeholder.strip('<>')} in {turn.text!r}"
            )
    if not turn.boxes and not turn.points:
        return turn
    if turn.box_image >= len(image_sizes):
        raise DataError(f"boxes refer to image {turn.box_image}, of {len(image_sizes)} images")
    width, height = image_sizes[turn.box_image]
    boxes = (format_boxes(g, style=style, width=width, height=height) for g in turn.boxes)
    points = (format_points(g, style=style, width=width, height=height) for g in turn.points)
    texts = {BOXES_PLACEHOLDER: boxes, POINTS_PLACEHOLDER: points}
    text = _PLACEHOLDERS.sub(lambda found: next(texts[found.group()]), turn.text)
    return Turn(turn.role, text, context=turn.context)


def render(
    messages: Sequence[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    style: str,
    *,
    generation_prompt: bool = False,
    continue_final: bool = False,
    template: str | None = None,
) -> Rendered:
    """Write a conversation in one of ``PROMPT_STYLES``.

    Raises:
        RecipeError: style ``chat`` with a tokenizer that has no chat template, or a template whose
            earlier text changes when a turn is added, so that answers cannot be located.
    """
    own = style == "chat"
    if template is not None or style not in STYLES_WITH_INPUT:
        messages = [_with_input(message) for message in messages]
    if own and template is None and not tokenizer.chat_template:
        raise RecipeError(
            "model.prompt_style 'chat': the tokenizer has no chat template; choose one of "
            + ", ".join(name for name in PROMPT_STYLES if name != "chat")
        )
    template = template or PROMPT_STYLES[style]

    def write(part: Sequence[dict[str, str]], prompt: bool, continuing: bool = False) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(part),
                chat_template=template,
                tokenize=False,
                add_generation_prompt=prompt,
                continue_final_message=continuing,
            )
        )

    text = write(messages, generation_prompt, continue_final)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or generation_prompt or continue_final:
            continue
        before, through = write(messages[:index], True), write(messages[: index + 1], False)
        if not (through.startswith(before) and text.startswith(through.rstrip())):
            raise RecipeError(
                f"prompt style {style!r}: the template rewrites earlier turns, so the answer of "
                f"turn {index} cannot be located; choose another prompt_style"
            )
        spans.append((len(before), len(through.rstrip())))
    return Rendered(text, tuple(spans), add_special_tokens=not own)


def without_images(rendered: Rendered) -> tuple[Rendered, int]:
    """Take every image placeholder, with the newline after it, out of a rendered conversation.

    Returns the rest, whose spans still cover the same words, and the number of placeholders.
    """
    places = [match.span() for match in _PLACEHOLDER_LINE.finditer(rendered.text)]

    def moved(position: int) -> int:
        return position - sum(min(last, position) - min(first, position) for first, last in places)

    spans = tuple((moved(first), moved(last)) for first, last in rendered.spans)
    text = _PLACEHOLDER_LINE.sub("", rendered.text)
    return Rendered(text, spans, rendered.add_special_tokens), len(places)


def checked_question(text: str) -> str:
    """Return a person's question without blanks around it.

    Raises:
        UsageError: it is empty, or holds a word that stands for something else in prompts.
    """
    question = text.strip()
    if not question:
        raise UsageError("the question is empty")
    for reserved in (IMAGE_PLACEHOLDER, BOXES_PLACEHOLDER, POINTS_PLACEHOLDER):
        if reserved in question:
            raise UsageError(f"{reserved} cannot be part of a question; show an image instead")
    return question


def _with_input(message: dict[str, str]) -> dict[str, str]:
    """The message for a style without a place for inputs: images, input, then the question."""
    if not message.get("input"):
        return message
    content = message["content"]
    last = max((match.end() for match in _PLACEHOLDER_LINE.finditer(content)), default=0)
    lead = content[:last] if not last or content[:last].endswith("\n") else content[:last] + "\n"
    parts = (message["input"], content[last:])
    return {"role": message["role"], "content": lead + "\n".join(part for part in parts if part)}
