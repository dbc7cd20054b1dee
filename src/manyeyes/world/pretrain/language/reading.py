"""How well the language model reads: exact replies and nats over held-out documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from manyeyes.layers.attention.shared_prefix import NAME
from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.language.chats import TaughtText, batch_documents, encode_document
from manyeyes.world.pretrain.language.decoder import next_logits
from manyeyes.world.pretrain.language.documents import Form
from manyeyes.world.pretrain.loop import batched


class Reply(NamedTuple):
    """One held-out reply: its kind of exchange, whether it was exact, nats of each token."""

    kind: str
    exact: bool
    nats: list[float]


def reading_figures(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    number: int = 200,
    batch: int = 20,
    form: Form = "words",
    described: bool = True,
) -> dict[str, dict[str, float]]:
    """Measure how well the model reads ``number`` held-out descriptions, or layouts.

    A reply is right when every token is the most likely one given the tokens before it, which is
    the same as greedy decoding giving the exact reply. Returns per kind ``exact`` (0..100),
    ``nats`` per token and ``n``; over all as ``"all"``. Without ``described`` nothing tells of the
    scene, which shows what can be guessed.
    """
    model.set_attn_implementation(NAME)
    groups: dict[str, list[Reply]] = defaultdict(list)
    for indices in batched(number, batch):
        documents = [
            encode_document(index, seed, tokenizer, split="val", form=form, described=described)
            for index in indices
        ]
        for reply in _read(model, documents, int(tokenizer.pad_token_id)):
            groups[reply.kind].append(reply)
    groups["all"] = [reply for group in groups.values() for reply in group]
    return {kind: _figures(group) for kind, group in sorted(groups.items())}


@torch.no_grad()
def _read(model: LlamaForCausalLM, documents: Sequence[TaughtText], pad: int) -> list[Reply]:
    batch = batch_documents(documents, pad)
    with autocast(CPU):
        logits = next_logits(model, batch)
    losses = functional.cross_entropy(logits.float().transpose(1, 2), batch.goals, reduction="none")
    hits = logits.argmax(dim=-1) == batch.goals
    found = []
    for place in batch.replies:
        span = slice(place.first, place.end)
        exact = bool(hits[place.document, span].all())
        found.append(Reply(place.kind, exact, losses[place.document, span].tolist()))
    return found


def _figures(replies: list[Reply]) -> dict[str, float]:
    nats = [value for reply in replies for value in reply.nats]
    return {
        "exact": 100.0 * sum(reply.exact for reply in replies) / len(replies),
        "nats": sum(nats) / len(nats),
        "n": float(len(replies)),
    }
