"""Chat messages of parts to text, and which arguments the processor's methods take.

What nothing would read is an error; ``transformers`` hands over arguments of other processors, and
None and False among them ask for nothing.

Shapes: B conversations, T positions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from manyeyes.conversation.chat_parts import (
    conversation_tags,
    flatten_parts,
)
from manyeyes.conversation.rendering import (
    Rendered,
    render,
    template_source,
    turns_to_messages,
    without_images,
)
from manyeyes.errors import UsageError, nearest
from manyeyes.model.pictures.tiles import GRIDS
from manyeyes.model.text_rows import TextRows
from manyeyes.records import Role, Turn

TENSORS = ("pt",)
"""What ``return_tensors`` may ask for."""


def render_chats(
    rows: TextRows,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    *,
    template: str | None,
    generation_prompt: bool,
    continue_final: bool,
    spans: bool,
    variables: dict[str, Any],
    known: Sequence[str],
) -> list[Rendered]:
    """Render conversations of parts; see ``ManyEyesProcessor.apply_chat_template``.

    ``known``: what that method takes besides ``variables``, for messages.

    Raises:
        UsageError: a variable that nothing reads, or arguments that exclude each other.
    """
    _check_variables(rows, variables, template, known)
    if generation_prompt and continue_final:
        raise UsageError("add_generation_prompt and continue_final_message exclude each other")
    return [
        render(
            _messages(rows, parts),
            rows.tokenizer,
            rows.prompt_style,
            generation_prompt=generation_prompt,
            continue_final=continue_final,
            template=template,
            spans=spans,
            variables=variables,
        )
        for parts in conversations
    ]


def assistant_masks(
    rows: TextRows, rendered: Sequence[Rendered], inputs: Mapping[str, Tensor]
) -> Tensor:
    """Return ``[B, T]``, 1 where a token of ``inputs`` is the assistant's.

    Raises:
        UsageError: the inputs hold other tokens than the rendered texts.
    """
    masks_BT = torch.zeros_like(inputs["input_ids"])
    lengths = None
    if rows.layout is not None and GRIDS in inputs:
        lengths = rows.layout.lengths(inputs[GRIDS])
    runs = rows.runs(lengths)
    for place, item in enumerate(rendered):
        bare = without_images(item)[0] if rows.images_leave_no_token else item
        _, answers = rows.supervised(bare, runs)
        real_T = inputs["attention_mask"][place].bool()
        if int(real_T.sum()) != len(answers):
            raise UsageError(
                "return_assistant_tokens_mask=True: processor_kwargs change the tokens of the "
                "text, so the assistant's cannot be told; leave add_special_tokens out"
            )
        masks_BT[place, real_T] = torch.tensor(answers, dtype=masks_BT.dtype)
    return masks_BT


def _check_variables(
    rows: TextRows, variables: dict[str, Any], template: str | None, known: Sequence[str]
) -> None:
    """Refuse what neither we nor the template read; None and False ask for nothing."""
    if not variables:
        return
    source = template_source(rows.tokenizer, rows.prompt_style, template)
    for name, value in list(variables.items()):
        if re.search(rf"\b{re.escape(name)}\b", source) is not None:
            continue
        if value is None or value is False:
            del variables[name]
        else:
            raise UsageError(
                f"apply_chat_template: nothing reads {name!r}{nearest(name, known)}; it is "
                "no variable of the chat template, and arguments of the processor's call go "
                "into processor_kwargs"
            )


def _messages(rows: TextRows, parts: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One conversation with words in place of its parts, tags among them."""
    flat = flatten_parts(parts)
    turns = rows.clean([Turn(cast(Role, m["role"]), m["content"]) for m in flat])
    return turns_to_messages(rows.with_tags(turns, conversation_tags(parts), "the conversation"))


def check_tensors(return_tensors: str | None) -> None:
    """Raise ``UsageError`` unless PyTorch tensors are asked for; None and "auto" mean them."""
    if return_tensors not in (*TENSORS, None, "auto"):
        raise UsageError(f"return_tensors={return_tensors!r}: this processor returns 'pt' alone")


def refuse(unknown: Mapping[str, Any], call: Callable[..., Any]) -> None:
    """Raise ``UsageError`` for arguments that ``call`` was given and does not read."""
    known = argument_names(call)
    for name, value in unknown.items():
        if value is not None and value is not False:
            raise UsageError(
                f"the processor does not take {name}={value!r}{nearest(name, known)}; "
                f"it takes {', '.join(known)}"
            )


def argument_names(call: Callable[..., Any]) -> list[str]:
    """Return the names that a bound method takes."""
    parameters = inspect.signature(call).parameters.values()
    return [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
