"""Decoder-only language models: Llama, Qwen, OPT, Mistral, ... (``AutoModelForCausalLM``)."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor

from manyeyes.language.contract import LanguageOutput, ReadPrompt
from manyeyes.layers.adapters.attention import positions
from manyeyes.records import IGNORE


class DecoderOnly:
    """The prompt and the answer are one sequence; position t predicts token t + 1."""

    answers_in_sequence = True

    def forward(
        self,
        model: Any,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        **kwargs: Any,
    ) -> LanguageOutput:
        if labels is None:
            output = model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)
            return LanguageOutput(output.logits, None, output.past_key_values)
        keep = supervised_columns(labels)
        output = model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            logits_to_keep=keep,
            use_cache=False,
            **kwargs,
        )
        targets = labels[:, keep + 1]
        supervised = targets != IGNORE
        return LanguageOutput(output.logits[supervised], targets[supervised])

    def generate(
        self,
        model: Any,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor,
        **kwargs: Any,
    ) -> Any:
        return model.generate(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            **kwargs,
        )

    def read(self, model: Any, inputs_embeds: Tensor, attention_mask: Tensor) -> ReadPrompt:
        output = model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            use_cache=True,
            logits_to_keep=1,
            **_position_ids(model, attention_mask, attention_mask.shape[1]),
        )
        return ReadPrompt(output.past_key_values, attention_mask, output.logits[:, -1])

    def continue_prompts(
        self, model: Any, prompt: ReadPrompt, owners: Tensor, tokens: Tensor
    ) -> Tensor:
        assert prompt.next_logits is not None, "reading a prompt predicts its next token"
        first_C1V = prompt.next_logits[owners][:, None]
        fed = tokens[:, :-1]
        if not fed.shape[1]:
            return first_C1V
        mask = torch.cat([prompt.attention_mask[owners], (fed != IGNORE).long()], dim=1)
        cache = copy.deepcopy(prompt.state)
        cache.reorder_cache(owners)
        output = model(
            input_ids=fed.clamp(min=0),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **_position_ids(model, mask, fed.shape[1]),
        )
        return torch.cat([first_C1V, output.logits], dim=1)


def _position_ids(model: Any, attention_mask: Tensor, last: int) -> dict[str, Tensor]:
    """Position ids of the ``last`` columns, for models that take any (not those with ALiBi)."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": positions(attention_mask)[:, -last:]}


def supervised_columns(labels_BT: Tensor) -> Tensor:
    """Return the positions t whose next token is supervised in some sample, at least one.

    One index set for the whole batch is what ``logits_to_keep`` takes; with right padding the
    answers of a batch overlap, so it stays close to the longest answer.
    """
    columns = (labels_BT[:, 1:] != IGNORE).any(dim=0).nonzero().flatten()
    return columns if len(columns) else torch.zeros(1, dtype=torch.long, device=labels_BT.device)
