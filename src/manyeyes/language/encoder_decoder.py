"""Encoder-decoder language models: T5 and its kin (``AutoModelForSeq2SeqLM``)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from manyeyes.language.contract import LanguageOutput, ReadPrompt
from manyeyes.records import IGNORE


class EncoderDecoder:
    """The encoder reads image and prompt; the decoder writes the answer (LION §1.2)."""

    answers_in_sequence = False

    def forward(
        self,
        model: Any,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor | None,
        **kwargs: Any,
    ) -> LanguageOutput:
        output = model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs
        )
        if labels is None:
            return LanguageOutput(output.logits, None, output.past_key_values)
        supervised = labels != IGNORE
        return LanguageOutput(output.logits[supervised], labels[supervised])

    def generate(
        self,
        model: Any,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor,
        **kwargs: Any,
    ) -> Any:
        return model.generate(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)

    def read(self, model: Any, inputs_embeds: Tensor, attention_mask: Tensor) -> ReadPrompt:
        encoder = model.get_encoder()
        states = encoder(inputs_embeds=inputs_embeds, attention_mask=attention_mask)
        return ReadPrompt(states.last_hidden_state, attention_mask)

    def continue_prompts(
        self, model: Any, prompt: ReadPrompt, owners: Tensor, tokens: Tensor
    ) -> Tensor:
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=prompt.state[owners]),
            attention_mask=prompt.attention_mask[owners],
            labels=tokens,
            use_cache=False,
        )
        logits: Tensor = output.logits
        return logits
