"""The language model of the world: words only, from scratch (see ``documents``).

Like a real language model it brings language and reading, and has never seen an image. Llama type,
width 128, five layers, tied embeddings. Shapes: B documents, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from manyeyes.layers.attention.shared_prefix import NAME, SHARED_PREFIX
from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.export import check_start
from manyeyes.world.pretrain.language.chats import (
    CONTEXT_WEIGHT,
    DocumentBatch,
    TaughtText,
    batch_documents,
    encode_document,
)
from manyeyes.world.pretrain.language.coordinates import start_coordinates, start_from
from manyeyes.world.pretrain.language.layouts import embed_rows
from manyeyes.world.pretrain.language.lessons import CHAT_LESSONS
from manyeyes.world.pretrain.loop import PartObjective, step_generator

LAYERS, WIDTH, INNER_WIDTH, HEADS = 5, 128, 384, 4
MAX_POSITIONS = 2048

MATCHING_SCALE = 0.08
"""Standard deviation of the query and key weights of heads that start by matching."""

_POOL = 4
"""Documents of this many steps are drawn together and sorted by length, to waste no padding."""


class LanguageObjective(PartObjective):
    """Next-token loss, mostly on replies. Documents of equal length go into one batch.

    ``images_per_step`` counts documents; step 0 reads those from ``first_document`` on, which is
    kept with the weights. What starts from another model has had its lessons.
    """

    learning_rate = 1e-3
    first_document: Tensor

    def __init__(
        self, seed: int, tokenizer: PreTrainedTokenizerBase, images_per_step: int = 16
    ) -> None:
        super().__init__()
        self.seed, self.images_per_step, self.tokenizer = seed, images_per_step, tokenizer
        torch.manual_seed(seed)
        self.register_buffer("first_document", torch.tensor(0))
        self.network = self.build()
        start_coordinates(
            self.network.get_input_embeddings().weight,
            tokenizer,
            torch.Generator().manual_seed(seed + 2),
        )
        self.network.set_attn_implementation(NAME)  # texts of a document share its beginning
        self._pool: tuple[int, list[list[TaughtText]]] = (-1, [])

    def build(self) -> Any:
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

    def start_from(self, folder: Path) -> None:
        """Take the weights of the language model in ``folder``; begin after its lessons.

        Tokens are matched by their text.

        Raises:
            CheckpointError: there is none, or it differs in more than its vocabulary.
        """
        check_start(folder, self.network.config.model_type)
        earlier = type(self.network).from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        start_from(self.network, self.tokenizer, earlier, tokenizer)
        self.first_document.fill_(CHAT_LESSONS[-1].end)

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

    def export(self, folder: Path) -> None:
        """Write the bf16 model with its tokenizer and chat template."""
        folder.mkdir(parents=True, exist_ok=True)
        half = copy.deepcopy(self.network)
        nn.Module.to(half, torch.bfloat16)
        half.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def seen(self, steps: int) -> dict[str, int]:
        """Return the documents read, the first of them, and the size of the vocabulary."""
        return {
            "documents per step": self.images_per_step,
            "documents": steps * self.images_per_step,
            "first document": int(self.first_document),
            "vocabulary": len(self.tokenizer),
        }

    def documents(self, step: int) -> list[TaughtText]:
        """Return the documents of one step; steps of one pool share a sorted draw."""
        pool, size = step // _POOL, self.images_per_step
        if self._pool[0] != pool:
            first = int(self.first_document) + pool * _POOL * size
            drawn = [
                encode_document(first + index, self.seed, self.tokenizer)
                for index in range(_POOL * size)
            ]
            drawn.sort(key=lambda document: len(document.beginning))
            self._pool = (pool, [drawn[i * size : (i + 1) * size] for i in range(_POOL)])
        order = torch.randperm(_POOL, generator=step_generator(self.seed, pool)).tolist()
        return self._pool[1][order[step % _POOL]]


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


@torch.no_grad()
def start_as_search(
    query: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    output: nn.Linear,
    *,
    heads: int,
    scale: float,
    generator: torch.Generator,
) -> None:
    """Start an attention as a search for equal tokens that copies what it finds, in place.

    Every other head has equal query and key weights of deviation ``scale``, and the output
    projection is the transpose of the value projection (mimetic initialization, Trockman and Kolter
    2023; which heads and how strong is ours). Reading, which consists of matching and copying, is
    then learnt sooner in one short trial (one seed); all weights stay free.
    """
    shape = (heads, -1, query.in_features)
    queries, keys = query.weight.view(shape), key.weight.view(shape)
    for head in range(0, heads, 2):
        queries[head].normal_(0.0, scale, generator=generator)
        keys[head].copy_(queries[head])
    output.weight.copy_(value.weight.T)
