"""The decoder language model of the world: words only, from scratch (see ``documents``).

Like a real language model it brings language and reading, and has never seen an image. Llama type,
width 128, five layers, tied embeddings. Shapes: B documents, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from manyeyes.layers.attention.shared_prefix import NAME, SHARED_PREFIX
from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.language import text
from manyeyes.world.pretrain.language.chats import (
    CONTEXT_WEIGHT,
    DocumentBatch,
    TaughtText,
    batch_documents,
    encode_document,
)
from manyeyes.world.pretrain.language.layouts import embed_rows
from manyeyes.world.pretrain.language.lessons import CHAT_LESSONS
from manyeyes.world.pretrain.language.text import Answered, TextObjective, start_as_search
from manyeyes.world.pretrain.loop import step_generator

LAYERS, WIDTH, INNER_WIDTH, HEADS = 5, 128, 384, 4
MAX_POSITIONS = 2048

MATCHING_SCALE = 0.08
"""Standard deviation of the query and key weights of heads that start by matching."""


class LanguageObjective(TextObjective[TaughtText]):
    """Next-token loss, mostly on replies. What starts from another model has had its lessons."""

    learning_rate = 1e-3
    later = CHAT_LESSONS[-1].end

    def __init__(
        self, seed: int, tokenizer: PreTrainedTokenizerBase, images_per_step: int = 16
    ) -> None:
        super().__init__(seed, tokenizer, images_per_step)

    def build(self) -> LlamaForCausalLM:
        """Return the network; half of its heads start by matching."""
        network = LlamaForCausalLM(language_config(self.tokenizer))
        generator = torch.Generator().manual_seed(self.seed + 1)
        for layer in network.model.layers:
            attention = layer.self_attn
            start_as_search(
                attention.q_proj,
                attention.k_proj,
                attention.v_proj,
                attention.o_proj,
                heads=HEADS,
                scale=MATCHING_SCALE,
                generator=generator,
            )
        return network

    def attention(self) -> str:
        """Texts of a document share its beginning."""
        return NAME

    def draw(self, index: int) -> TaughtText:
        """Return training document ``index`` as a chat."""
        return encode_document(index, self.seed, self.tokenizer)

    def length(self, document: TaughtText) -> int:
        """Return its number of tokens."""
        return len(document.beginning)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted mean cross-entropy of step ``step``'s documents."""
        batch = batch_documents(self.documents(step), int(self.tokenizer.pad_token_id))
        noise = step_generator(self.seed, step)
        with autocast(CPU):
            logits = next_logits(self.network, batch, noise)
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1), batch.goals.flatten(), reduction="none"
        )
        weight = batch.weights.flatten()
        replies = weight > CONTEXT_WEIGHT
        figures = {
            "reply_nats": float(losses.detach()[replies].mean()),
            "replies": float(len(batch.replies)),
            "tokens": float((weight > 0).sum()),
        }
        return (losses * weight).sum() / weight.sum(), figures


def next_logits(
    network: LlamaForCausalLM, batch: DocumentBatch, noise: torch.Generator | None = None
) -> Tensor:
    """Return ``[B, T, V]``: what follows every position of a batch, see ``layouts.embed_rows``."""
    embeds = embed_rows(network.model.embed_tokens.weight, batch.ids, batch.layouts, noise)
    logits: Tensor = network(
        inputs_embeds=embeds,
        position_ids=batch.positions,
        use_cache=False,
        **{SHARED_PREFIX: batch.shared},
    ).logits
    return logits


def language_config(tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    """Return the shipped configuration for ``tokenizer``."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER_WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rms_norm_eps=1e-5,
        initializer_range=0.04,
    )


def _answer(model: LlamaForCausalLM, documents: Sequence[TaughtText], pad: int) -> Answered:
    model.set_attn_implementation(NAME)
    batch = batch_documents(documents, pad)
    return Answered(next_logits(model, batch), batch.goals, batch.replies)


reading_figures = partial(text.reading_figures, encode_document, _answer)
