"""Documents as chats: what the decoder language model is trained on.

A chat holds the whole conversation, so that one reading of the scene teaches all of its replies.
Shapes: B documents, T tokens, N cells, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.world.pretrain.documents import Form, encode_text, tell
from manyeyes.world.pretrain.layouts import LayoutBatch, batch_layouts
from manyeyes.world.pretrain.lessons import CHAT_LESSONS

CONTEXT_WEIGHT = 0.02
"""Loss weight of a token that is not in a reply. A token of an n-token reply weighs 1/sqrt(n), so
that long captions, whose wording nobody can foresee, do not drown short answers."""


@dataclass(frozen=True)
class Document:
    """A tokenised document: ``ids``, a loss weight per token, and each reply's kind and tokens.

    ``layout`` ``[N, V]`` takes the place of the ids from ``LAYOUT_START`` on, which are padding;
    a ``clean`` one gets no noise.
    """

    ids: list[int]
    weights: list[float]
    replies: tuple[tuple[str, range], ...]
    layout: Tensor | None = None
    clean: bool = False


@dataclass(frozen=True)
class DocumentBatch:
    """Right-padded documents: ``ids`` ``[B, T]``, ``weights`` ``[B, T]`` (0 = padding), layouts."""

    ids: Tensor
    weights: Tensor
    layouts: LayoutBatch


def encode_document(
    index: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    form: Form | None = None,
    described: bool = True,
) -> Document:
    """Return the tokens of document ``index`` of ``split``, see ``tell``."""
    told = tell(index, seed, tokenizer, CHAT_LESSONS, split=split, form=form, described=described)
    if isinstance(told, str):
        ids = [tokenizer.bos_token_id, *encode_text(tokenizer, told), tokenizer.eos_token_id]
        return Document(ids, [1.0] * len(ids), ())
    return _encode_turns(told.conversation(), tokenizer, told.layout, clean=told.clean)


def batch_documents(documents: Sequence[Document], pad: int) -> DocumentBatch:
    """Put documents into one right-padded batch."""
    longest = max(len(document.ids) for document in documents)
    ids = torch.full((len(documents), longest), pad)
    weights = torch.zeros(len(documents), longest)
    for row, document in enumerate(documents):
        ids[row, : len(document.ids)] = torch.tensor(document.ids)
        weights[row, : len(document.ids)] = torch.tensor(document.weights)
    layouts = batch_layouts([(document.layout, document.clean, 1) for document in documents])
    return DocumentBatch(ids, weights, layouts)


def _encode_turns(
    turns: Sequence[tuple[str, str, str]],
    tokenizer: PreTrainedTokenizerBase,
    layout: Tensor | None = None,
    *,
    clean: bool = False,
) -> Document:
    """Return the chat of (kind, request, reply) turns, with a layout before the first request."""
    ids, weights = [int(tokenizer.bos_token_id)], [0.0]
    replies = []
    for number, (kind, request, reply) in enumerate(turns):
        if number == 0 and layout is not None:
            gap = [int(tokenizer.pad_token_id)] * len(layout)
            lead = [*encode_text(tokenizer, "<|user|>"), *gap]
            ids += lead
            weights += [0.0] * len(lead)
            asked = encode_text(tokenizer, f"\n{request}<|assistant|>")
        else:
            asked = encode_text(tokenizer, f"<|user|>{request}<|assistant|>")
        replied = [*encode_text(tokenizer, f" {reply}"), int(tokenizer.eos_token_id)]
        start = len(ids) + len(asked)
        replies.append((kind, range(start, start + len(replied))))
        ids += asked + replied
        weights += [CONTEXT_WEIGHT] * len(asked)
        weights += [len(replied) ** -0.5] * len(replied)
    return Document(ids, weights, tuple(replies), layout, clean)
