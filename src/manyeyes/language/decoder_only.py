"""Decoder-only language models: Llama, Qwen, OPT, Mistral, ... (``AutoModelForCausalLM``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manyeyes.language.contract import IGNORE, LanguageOutput


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


def supervised_columns(labels_BT: Tensor) -> Tensor:
    """Return the positions t whose next token is supervised in some sample, at least one.

    One index set for the whole batch is what ``logits_to_keep`` takes; with right padding the
    answers of a batch overlap, so it stays close to the longest answer.
    """
    columns = (labels_BT[:, 1:] != IGNORE).any(dim=0).nonzero().flatten()
    return columns if len(columns) else torch.zeros(1, dtype=torch.long, device=labels_BT.device)
