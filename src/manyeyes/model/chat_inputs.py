"""Chat messages to model inputs: the processor's ``apply_chat_template``.

Shapes: B conversations, T positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from manyeyes.conversation.chat_parts import (
    conversation_images,
    conversation_tags,
    flatten_parts,
    last_question,
)
from manyeyes.conversation.rendering import (
    Rendered,
    render,
    template_source,
    turns_to_messages,
    without_images,
)
from manyeyes.errors import UsageError, nearest
from manyeyes.model.text_rows import TextRows
from manyeyes.records import Role, Turn

_OPTIONS = (
    "chat_template",
    "tokenize",
    "return_dict",
    "return_tensors",
    "add_generation_prompt",
    "continue_final_message",
    "return_assistant_tokens_mask",
    "processor_kwargs",
)
TENSORS = ("pt",)
"""What ``return_tensors`` may ask for."""


class ChatInputs(TextRows):
    """The part of ``ManyEyesProcessor`` that reads conversations of parts."""

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = "pt",
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_assistant_tokens_mask: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Any:
        """Render one conversation or a list of them, with ``{"type": "image"}`` parts.

        An image part carries ``image`` (PIL), ``path`` or ``url``, and ``tags``, a list of names,
        where the model reads them. Returns strings, or with ``tokenize`` and ``return_dict`` the
        model inputs; ``return_assistant_tokens_mask`` adds ``assistant_masks`` ``[B, T]``, 1 where
        a token is the assistant's: those that training supervises. ``variables``: of the template.

        Raises:
            UsageError: an argument that nothing reads, or that makes no sense with the others.
        """
        self._check_variables(variables, chat_template)
        check_tensors(return_tensors)
        if return_assistant_tokens_mask and not (tokenize and return_dict):
            raise UsageError(
                "return_assistant_tokens_mask=True needs tokenize=True and return_dict=True"
            )
        if add_generation_prompt and continue_final_message:
            raise UsageError("add_generation_prompt and continue_final_message exclude each other")
        single = isinstance(conversation[0], Mapping)
        conversations = [conversation] if single else list(conversation)
        rendered = [
            render(
                self._tagged_messages(messages),
                self.tokenizer,
                self.prompt_style,
                generation_prompt=add_generation_prompt,
                continue_final=continue_final_message,
                template=chat_template,
                spans=return_assistant_tokens_mask,
                variables=variables,
            )
            for messages in conversations
        ]
        texts = [item.text for item in rendered]
        if not tokenize:
            return texts[0] if single else texts
        make: Any = self
        inputs = make(
            images=[image for group in map(conversation_images, conversations) for image in group],
            text=texts,
            questions=[last_question(messages) for messages in conversations],
            **dict(processor_kwargs or {}),
        )
        if return_assistant_tokens_mask:
            inputs["assistant_masks"] = self._masks(rendered, inputs)
        return inputs if return_dict else inputs["input_ids"]

    def _masks(self, rendered: Sequence[Rendered], inputs: Mapping[str, Tensor]) -> Tensor:
        masks = torch.zeros_like(inputs["input_ids"])
        for row, item in enumerate(rendered):
            bare = without_images(item)[0] if self.images_leave_no_token else item
            _, inside = self.supervised(bare)
            real = inputs["attention_mask"][row].bool()
            if int(real.sum()) != len(inside):
                raise UsageError(
                    "return_assistant_tokens_mask=True: processor_kwargs change the tokens of the "
                    "text, so the assistant's cannot be told; leave add_special_tokens out"
                )
            masks[row, real] = torch.tensor(inside, dtype=masks.dtype)
        return masks

    def _check_variables(self, variables: dict[str, Any], template: str | None) -> None:
        """Refuse what neither we nor the template read; None and False ask for nothing."""
        if not variables:
            return
        source = template_source(self.tokenizer, self.prompt_style, template)
        for name, value in list(variables.items()):
            if re.search(rf"\b{re.escape(name)}\b", source) is not None:
                continue
            if value is None or value is False:
                del variables[name]
            else:
                raise UsageError(
                    f"apply_chat_template: nothing reads {name!r}{nearest(name, _OPTIONS)}; it is "
                    "no variable of the chat template, and arguments of the processor's call go "
                    "into processor_kwargs"
                )

    def _tagged_messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        flat = flatten_parts(messages)
        turns = self.clean([Turn(cast(Role, m["role"]), m["content"]) for m in flat])
        tags = conversation_tags(messages)
        return turns_to_messages(self.with_tags(turns, tags, "the conversation"))


def check_tensors(return_tensors: str | None) -> None:
    """Raise ``UsageError`` unless PyTorch tensors are asked for; None and "auto" mean them."""
    if return_tensors not in (*TENSORS, None, "auto"):
        raise UsageError(f"return_tensors={return_tensors!r}: this processor returns 'pt' alone")
