"""The decoder language model of the world: words only, from scratch (see ``documents``).

Like a real language model it brings language and reading, and has never seen an image. Llama type,
width 128, five layers, tied embeddings. Shapes: B documents, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from manyeyes.precision import CPU, autocast, bfloat16_pays
from manyeyes.world.pretrain.documents import (
    CONTEXT_WEIGHT,
    LAYOUT_START,
    Document,
    DocumentBatch,
    Form,
    batch_documents,
    encode_document,
)
from manyeyes.world.pretrain.loop import Objective, step_generator

LAYERS, WIDTH, INNER_WIDTH, HEADS = 5, 128, 384, 4
MAX_POSITIONS = 2048

MATCHING_SCALE = 0.08
"""Standard deviation of the query and key weights of heads that start by matching."""

MOST_NOISE = 0.5
"""A layout draws its share of noise, as the ratio of standard deviations, between 0 and this."""

_POOL = 4
"""Documents of this many steps are drawn together and sorted by length, to waste no padding."""


class LanguageObjective(Objective):
    """Next-token loss, mostly on replies; documents of equal length go into one batch."""

    learning_rate = 2e-3

    def __init__(
        self, seed: int, tokenizer: PreTrainedTokenizerBase, images_per_step: int = 8
    ) -> None:
        super().__init__()
        self.seed, self.images_per_step, self.tokenizer = seed, images_per_step, tokenizer
        torch.manual_seed(seed)
        self.network = LlamaForCausalLM(language_config(tokenizer))
        # fused attention is slow in bfloat16 on CPUs and fast in float32
        self.network.set_attn_implementation("eager" if bfloat16_pays(CPU) else "sdpa")
        start_matching(self.network, torch.Generator().manual_seed(seed + 1))
        self._pool: tuple[int, list[list[Document]]] = (-1, [])

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted mean cross-entropy of step ``step``'s documents."""
        batch = batch_documents(self._documents(step), int(self.tokenizer.pad_token_id))
        noise = step_generator(self.seed, step)
        with autocast(CPU):
            embeds = embed_documents(self.network, batch, noise)
            logits = self.network(inputs_embeds=embeds[:, :-1], use_cache=False).logits
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
        )
        weight = batch.weights[:, 1:].flatten()
        replies = weight > CONTEXT_WEIGHT
        figures = {
            "reply_nats": float(losses.detach()[replies].mean()),
            "tokens": float((weight > 0).sum()),
        }
        return (losses * weight).sum() / weight.sum(), figures

    def export(self, folder: Path) -> None:
        """Write the bf16 ``LlamaForCausalLM`` with its tokenizer and chat template."""
        folder.mkdir(parents=True, exist_ok=True)
        half = copy.deepcopy(self.network)
        nn.Module.to(half, torch.bfloat16)
        half.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _documents(self, step: int) -> list[Document]:
        """Return the documents of one step; steps of one pool share a sorted draw."""
        pool = step // _POOL
        if self._pool[0] != pool:
            first = pool * _POOL * self.images_per_step
            drawn = [
                encode_document(first + index, self.seed, self.tokenizer)
                for index in range(_POOL * self.images_per_step)
            ]
            drawn.sort(key=lambda document: len(document.ids))
            size = self.images_per_step
            self._pool = (pool, [drawn[i * size : (i + 1) * size] for i in range(_POOL)])
        order = torch.randperm(_POOL, generator=step_generator(self.seed, pool)).tolist()
        return self._pool[1][order[step % _POOL]]


def embed_documents(
    network: LlamaForCausalLM, batch: DocumentBatch, noise: torch.Generator | None = None
) -> Tensor:
    """Return ``[B, T, D]``: embedded ids, and embedded layouts in their places.

    ``noise`` adds noise to the cells, because no projector says exactly what words say.
    """
    table = network.model.embed_tokens.weight
    embeds = functional.embedding(batch.ids, table)
    if not len(batch.rows):
        return embeds
    cells = batch.layouts @ table
    if noise is not None:
        level = torch.rand(len(cells), 1, 1, generator=noise) * MOST_NOISE * cells.detach().std()
        level = level * batch.noisy[:, None, None]
        cells = cells + level * torch.randn(cells.shape, generator=noise)
    places = slice(LAYOUT_START, LAYOUT_START + cells.shape[1])
    embeds[batch.rows, places] = cells.to(embeds.dtype)
    return embeds


@torch.no_grad()
def start_matching(network: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Start attention as a search for equal tokens that copies what it finds, in place.

    Every other head has equal query and key weights, and each output projection is the transpose of
    its value projection (mimetic initialization, Trockman and Kolter 2023; which heads and how
    strong is ours). Reading, which consists of matching and copying, is then learnt sooner in one
    short trial (one seed); all weights stay free.
    """
    config = network.config
    shape = (config.num_attention_heads, -1, config.hidden_size)
    for layer in network.model.layers:
        attention = layer.self_attn
        queries, keys = attention.q_proj.weight.view(shape), attention.k_proj.weight.view(shape)
        for head in range(0, config.num_attention_heads, 2):
            queries[head].normal_(0.0, MATCHING_SCALE, generator=generator)
            keys[head].copy_(queries[head])
        attention.o_proj.weight.copy_(attention.v_proj.weight.T)


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
def reading_figures(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    number: int = 200,
    batch: int = 20,
    form: Form = "words",
    described: bool = True,
) -> dict[str, dict[str, float]]:
    """Measure how well the model reads held-out descriptions, or layouts.

    A reply is right when every token is the most likely one given the tokens before it, which is
    the same as greedy decoding giving the exact reply. Returns per kind of exchange ``exact``
    (0..100), ``nats`` per token and ``n``, and the same over all under ``"all"``. Without
    ``described`` nothing tells of the scene, which shows what can be guessed.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    nats: dict[str, list[float]] = defaultdict(list)
    for start in range(0, number, batch):
        documents = [
            encode_document(index, seed, tokenizer, split="val", form=form, described=described)
            for index in range(start, min(start + batch, number))
        ]
        _read(model, documents, int(tokenizer.pad_token_id), right, nats)
    right["all"] = [hit for hits in right.values() for hit in hits]
    nats["all"] = [value for values in nats.values() for value in values]
    return {
        kind: {
            "exact": 100.0 * sum(right[kind]) / len(right[kind]),
            "nats": sum(nats[kind]) / len(nats[kind]),
            "n": float(len(right[kind])),
        }
        for kind in sorted(right)
    }


def _read(
    model: LlamaForCausalLM,
    documents: Sequence[Document],
    pad: int,
    right: dict[str, list[bool]],
    nats: dict[str, list[float]],
) -> None:
    batch = batch_documents(documents, pad)
    with autocast(CPU):
        embeds = embed_documents(model, batch)
        logits = model(inputs_embeds=embeds[:, :-1], use_cache=False).logits.float()
    goal = batch.ids[:, 1:]
    losses = functional.cross_entropy(logits.transpose(1, 2), goal, reduction="none")
    hits = logits.argmax(dim=-1) == goal
    for row, document in enumerate(documents):
        for kind, tokens in document.replies:
            span = slice(tokens.start - 1, tokens.stop - 1)
            right[kind].append(bool(hits[row, span].all()))
            nats[kind] += losses[row, span].tolist()
