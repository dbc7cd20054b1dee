"""The encoder-decoder language model of the world: words only, from scratch (see ``documents``).

T5 v1.1's type as Flan-T5 has it, gated, but with the exact GELU that BLIP-2's family of models runs
it with and with tied embeddings; width 128. The encoder reads scene and question, the decoder
writes the reply. Shapes: B pairs, T and A tokens of question and reply, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from manyeyes.model.precision import CPU, autocast
from manyeyes.records import IGNORE
from manyeyes.world.pretrain.language import text
from manyeyes.world.pretrain.language.layouts import embed_rows
from manyeyes.world.pretrain.language.lessons import PASSAGE_PLACES
from manyeyes.world.pretrain.language.passages import (
    Passage,
    PassageBatch,
    batch_passages,
    encode_passage,
)
from manyeyes.world.pretrain.language.text import (
    Answered,
    Placed,
    TextObjective,
    start_as_search,
)
from manyeyes.world.pretrain.loop import step_generator

ENCODER_LAYERS, DECODER_LAYERS, WIDTH, INNER_WIDTH, HEADS = 4, 4, 128, 384, 4

MATCHING_SCALE = 0.034
"""Standard deviation of the query and key weights of heads that start by matching: that of the
decoder language model, less what T5 does not divide its attention scores by."""

SELF_BIAS = -4.0
"""Starting bias of a matching head of the encoder against finding the asking token itself."""


class T5Objective(TextObjective[Passage]):
    """Cross-entropy of the replies."""

    later = PASSAGE_PLACES

    def __init__(
        self, seed: int, tokenizer: PreTrainedTokenizerBase, images_per_step: int = 8
    ) -> None:
        super().__init__(seed, tokenizer, images_per_step)

    def build(self) -> T5ForConditionalGeneration:
        """Return the network; half of its heads start by matching."""
        network: Any = T5ForConditionalGeneration(t5_config(self.tokenizer))
        start_matching(network, torch.Generator().manual_seed(self.seed + 1))
        return network

    def draw(self, index: int) -> Passage:
        """Return training document ``index`` as a passage."""
        return encode_passage(index, self.seed, self.tokenizer)

    def length(self, document: Passage) -> int:
        """Return the tokens of its longest question."""
        return max((len(pair.ids) for pair in document.pairs), default=0)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted mean cross-entropy of the replies of step ``step``."""
        batch = batch_passages(self.documents(step), int(self.tokenizer.pad_token_id))
        noise = step_generator(self.seed, step)
        with autocast(CPU):
            logits = reply_logits(self.network, batch, noise)
        losses = functional.cross_entropy(
            logits.float().transpose(1, 2), batch.labels, reduction="none"
        )
        figures = {
            "reply_nats": float(losses.detach()[batch.labels != IGNORE].mean()),
            "tokens": float(batch.mask.sum() + (batch.labels != IGNORE).sum()),
        }
        return (losses * batch.weights).sum() / batch.weights.sum(), figures


def reply_logits(network: Any, batch: PassageBatch, noise: torch.Generator | None = None) -> Tensor:
    """Return the logits ``[B, A, V]`` of every label, given the scene, the question and those
    before it; ``noise``: see ``layouts.embed_rows``.
    """
    embeds = embed_rows(network.shared.weight, batch.ids, batch.layouts, noise)
    output = network(
        inputs_embeds=embeds,
        attention_mask=batch.mask,
        decoder_input_ids=network._shift_right(batch.labels),
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


@torch.no_grad()
def start_matching(network: Any, generator: torch.Generator) -> None:
    """Start every attention as a search (see ``start_as_search``), in place.

    Both directions are open to the encoder, and a token matches none so well as itself: the bias
    of its matching heads makes them look elsewhere.
    """
    blocks = [*network.encoder.block, *network.decoder.block]
    for attention in (layer for block in blocks for layer in block.layer[:-1]):
        inner = getattr(attention, "SelfAttention", None) or attention.EncDecAttention
        start_as_search(
            inner.q,
            inner.k,
            inner.v,
            inner.o,
            heads=HEADS,
            scale=MATCHING_SCALE,
            generator=generator,
        )
    first = network.encoder.block[0].layer[0].SelfAttention
    first.relative_attention_bias.weight[0, ::2] = SELF_BIAS


def t5_config(tokenizer: PreTrainedTokenizerBase) -> T5Config:
    """Return the shipped configuration for ``tokenizer``."""
    fields = {
        "vocab_size": len(tokenizer),
        "d_model": WIDTH,
        "d_kv": WIDTH // HEADS,
        "d_ff": INNER_WIDTH,
        "num_layers": ENCODER_LAYERS,
        "num_decoder_layers": DECODER_LAYERS,
        "num_heads": HEADS,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    config = T5Config(**fields)
    config.dense_act_fn = "gelu"
    return config


def _answer(model: Any, passages: Sequence[Passage], pad: int) -> Answered:
    batch = batch_passages(passages, pad)
    pairs = [pair for passage in passages for pair in passage.pairs]
    places = [Placed(row, pair.kind, 0, len(pair.reply)) for row, pair in enumerate(pairs)]
    return Answered(reply_logits(model, batch), batch.labels, places)


reading_figures = partial(text.reading_figures, encode_passage, _answer)
