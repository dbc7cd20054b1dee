"""Conversations to strings, and which characters of a string are the assistant's.

Rendering goes through Jinja chat templates only, so training and inference cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from manyeyes.conversation.boxes import format_boxes, format_points
from manyeyes.conversation.chat_template import ChatTemplate, takes_system
from manyeyes.conversation.prompts import PROMPT_STYLES, STYLES_WITH_INPUT
from manyeyes.errors import DataError, RecipeError, UsageError
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, POINTS_PLACEHOLDER, Sample, Turn

_PLACEHOLDER_LINE = re.compile(f"{IMAGE_PLACEHOLDER}\\n?")
_PLACEHOLDERS = re.compile(f"{BOXES_PLACEHOLDER}|{POINTS_PLACEHOLDER}")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. ``spans``: character ranges [first, last) the model must write."""

    text: str
    spans: tuple[tuple[int, int], ...]

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


def check_written_size(sample: Sample, image_sizes: Sequence[tuple[int, int]]) -> None:
    """Check that a sample's image has the size that its file of boxes says.

    Raises:
        DataError: it has another, so that the boxes are in pixels of another image.
    """
    written = sample.meta.get("size")
    if written is not None and image_sizes and tuple(written) != tuple(image_sizes[0]):
        (width, height), found = written, image_sizes[0]
        raise DataError(
            f"sample {sample.id!r}: its boxes are in pixels of an image of {width}x{height}, but "
            f"{sample.images[0]} has {found[0]}x{found[1]}; use the images that were annotated"
        )


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
    spans: bool | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Rendered:
    """Write a conversation in one of ``PROMPT_STYLES``.

    ``template``: in place of the style's. ``spans``: whether to locate the answers; None = unless
    one is awaited or continued. ``variables``: of the template. A system message that the template
    does not take stands before the first question, two line ends between them, as in Gemma 3's.

    Raises:
        RecipeError: style ``chat`` with a tokenizer that has no chat template, or a template that
            refuses the conversation or changes its answers, see ``ChatTemplate``.
    """
    if template is not None or style not in STYLES_WITH_INPUT:
        messages = [_with_input(message) for message in messages]
    source = template_source(tokenizer, style, template)
    written = ChatTemplate(source, tokenizer, style, tuple((variables or {}).items()))
    if messages and messages[0]["role"] == "system" and not takes_system(written):
        messages = _without_system(messages)
    text = written.write(messages, prompt=generation_prompt, continuing=continue_final)
    wanted = not (generation_prompt or continue_final) if spans is None else spans
    found = written.answers(messages, text, prompt=generation_prompt) if wanted else []
    return Rendered(text, tuple(found))


def without_images(rendered: Rendered) -> tuple[Rendered, int]:
    """Take every image placeholder, with the newline after it, out of a rendered conversation.

    Returns the rest, whose spans still cover the same words, and the number of placeholders.
    """
    places = [match.span() for match in _PLACEHOLDER_LINE.finditer(rendered.text)]

    def moved(position: int) -> int:
        return position - sum(min(last, position) - min(first, position) for first, last in places)

    spans = tuple((moved(first), moved(last)) for first, last in rendered.spans)
    text = _PLACEHOLDER_LINE.sub("", rendered.text)
    return Rendered(text, spans), len(places)


def checked_question(text: str) -> str:
    """Return a person's question without blanks around it.

    Raises:
        UsageError: it is empty, holds a word that stands for something else in prompts, or bytes
            that are no text (half of a character).
    """
    question = text.strip()
    if not question:
        raise UsageError("the question is empty")
    for reserved in (IMAGE_PLACEHOLDER, BOXES_PLACEHOLDER, POINTS_PLACEHOLDER):
        if reserved in question:
            raise UsageError(f"{reserved} cannot be part of a question; show an image instead")
    if any("\ud800" <= letter <= "\udfff" for letter in question):
        raise UsageError("the question holds half a character: write it in UTF-8")
    return question


def template_source(
    tokenizer: PreTrainedTokenizerBase, style: str, template: str | None = None
) -> str:
    """Return the Jinja source that writes conversations in a style; ``template``: in its place.

    Raises:
        RecipeError: style ``chat`` with a tokenizer that has no chat template, or no default.
    """
    return template or PROMPT_STYLES[style] or _own_template(tokenizer)


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    others = ", ".join(name for name, source in PROMPT_STYLES.items() if source is not None)
    if not tokenizer.chat_template:
        raise RecipeError(
            "model.prompt_style 'chat': the tokenizer has no chat template; choose one of " + others
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise RecipeError(
            "model.prompt_style 'chat': the tokenizer has several chat templates and none of them "
            f"is named 'default' ({', '.join(tokenizer.chat_template)}); choose one of {others}"
        ) from error


def _without_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The system message as the beginning of the first question."""
    system, *talk = messages
    first = next((i for i, message in enumerate(talk) if message["role"] == "user"), None)
    if first is None:
        return list(messages)
    content = f"{system['content']}\n\n{talk[first]['content']}"
    return [*talk[:first], {**talk[first], "content": content}, *talk[first + 1 :]]


def _with_input(message: dict[str, str]) -> dict[str, str]:
    """The message for a style without a place for inputs: images, input, then the question."""
    if not message.get("input"):
        return message
    content = message["content"]
    last = max((match.end() for match in _PLACEHOLDER_LINE.finditer(content)), default=0)
    lead = content[:last] if not last or content[:last].endswith("\n") else content[:last] + "\n"
    parts = (message["input"], content[last:])
    return {"role": message["role"], "content": lead + "\n".join(part for part in parts if part)}
