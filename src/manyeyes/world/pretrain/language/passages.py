"""Documents as passages: what the encoder-decoder language model is trained on.

A passage is one scene with several pairs of a question, which the encoder reads together with the
scene, and its reply, which the decoder writes. The words are those of the chat format: the encoder
reads a chat up to the assistant's marker, the decoder writes what comes after it. Shapes: B pairs,
T tokens of the longest question, A of the longest reply, N cells, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.records import IGNORE
from manyeyes.world.pretrain.language.documents import Form, Told, encode_text, tell
from manyeyes.world.pretrain.language.layouts import LAYOUT_LENGTH, LayoutBatch, batch_layouts
from manyeyes.world.pretrain.language.lessons import PASSAGE_LESSONS

PAIRS = 4
"""Questions about each scene: few, so that a batch shows many scenes."""


@dataclass(frozen=True)
class Pair:
    """One exchange: its kind, ``ids`` for the encoder, and the ``reply`` with its end token."""

    kind: str
    ids: list[int]
    reply: list[int]


@dataclass(frozen=True)
class Passage:
    """A scene's pairs. ``layout`` ``[N, V]`` takes the place of padding in all of their ids."""

    pairs: tuple[Pair, ...]
    layout: Tensor | None = None
    clean: bool = False


@dataclass(frozen=True)
class PassageBatch:
    """Right-padded pairs: ``ids`` and ``mask`` (1 = real) ``[B, T]``, ``labels`` ``[B, A]``."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    layouts: LayoutBatch

    @property
    def weights(self) -> Tensor:
        """Loss weight of every label: 1/sqrt(n) in a reply of n tokens, as in ``chats``."""
        real = (self.labels != IGNORE).float()
        weights: Tensor = real * real.sum(dim=1, keepdim=True) ** -0.5
        return weights


def encode_passage(
    index: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    form: Form | None = None,
    described: bool = True,
) -> Passage:
    """Return document ``index`` of ``split`` with ``PAIRS`` exchanges, see ``tell``.

    A description that is to be repeated makes one more.
    """
    told = tell(
        index,
        seed,
        tokenizer,
        PASSAGE_LESSONS,
        split=split,
        form=form,
        described=described,
        captions=False,
        number=PAIRS,
    )
    assert isinstance(told, Told), "bare captions were not asked for"
    lead, head = [int(tokenizer.bos_token_id), *encode_text(tokenizer, "<|user|>")], ""
    if told.layout is not None:
        lead += [int(tokenizer.pad_token_id)] * LAYOUT_LENGTH
        head = "\n"
    elif told.text is not None:
        head = f"{told.text}\n"
    pairs = [
        Pair(
            kind,
            lead + encode_text(tokenizer, f"{head}{request}<|assistant|>"),
            [*encode_text(tokenizer, f" {reply}"), int(tokenizer.eos_token_id)],
        )
        for kind, request, reply in told.turns
    ]
    return Passage(tuple(pairs), told.layout, told.clean)


def batch_passages(passages: Sequence[Passage], pad: int) -> PassageBatch:
    """Put the pairs of passages, passage by passage, into one batch padded on the right."""
    pairs = [pair for passage in passages for pair in passage.pairs]
    ids = torch.full((len(pairs), max(len(pair.ids) for pair in pairs)), pad)
    mask = torch.zeros_like(ids)
    labels = torch.full((len(pairs), max(len(pair.reply) for pair in pairs)), IGNORE)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair.ids)] = torch.tensor(pair.ids)
        mask[row, : len(pair.ids)] = 1
        labels[row, : len(pair.reply)] = torch.tensor(pair.reply)
    owners = [(passage.layout, passage.clean, len(passage.pairs)) for passage in passages]
    return PassageBatch(ids, mask, labels, batch_layouts(owners))
