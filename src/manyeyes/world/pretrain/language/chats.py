"""Documents as chats: what the language model is trained on.

A chat is a beginning, which holds the scene, and many short texts behind it that all read that one
beginning (``shared_prefix``): single questions with their replies, as benchmarks ask them,
and conversations of a few turns. So one reading of a scene teaches all of its replies, and no reply
can be had from an earlier one. Shapes: B documents, P positions of the longest beginning, R slots
of S positions, T = P + R·S, N cells, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.layers.attention.shared_prefix import SharedPrefix
from manyeyes.world.pretrain.language.documents import Form, encode_text, scene_turns, tell
from manyeyes.world.pretrain.language.layouts import LAYOUT_LENGTH, LayoutBatch, batch_layouts
from manyeyes.world.pretrain.language.lessons import CHAT_LESSONS, LAST_LESSON
from manyeyes.world.scene import Scene

CONTEXT_WEIGHT = 0.02
"""Loss weight of a token that is not in a reply. A token of an n-token reply weighs 1/sqrt(n), so
that long captions, whose wording nobody can foresee, do not drown short answers."""

SINGLE_SHARE = 0.8
"""Share of texts that hold one turn; the others hold up to ``MOST_TURNS``."""

MOST_TURNS = 5

SLOT = 48
"""Positions of a slot, more where a text needs more."""


@dataclass(frozen=True)
class Text:
    """One text behind a beginning: ``ids``, a loss weight for each, and its replies' places."""

    ids: list[int]
    weights: list[float]
    replies: tuple[tuple[str, range], ...]


@dataclass(frozen=True)
class TaughtText:
    """A tokenised document: the ``beginning`` and the texts behind it.

    ``layout`` ``[N, V]`` takes the place of the beginning's ids from ``LAYOUT_START`` on, which are
    padding; a ``clean`` one gets no noise.
    """

    beginning: list[int]
    texts: tuple[Text, ...]
    layout: Tensor | None = None
    clean: bool = False


@dataclass(frozen=True)
class Placed:
    """A reply's place in a batch: its document, its kind, and its positions ``first``..``end``."""

    document: int
    kind: str
    first: int
    end: int


@dataclass(frozen=True)
class DocumentBatch:
    """Documents side by side: ``ids``, ``positions``, ``goals`` and ``weights`` ``[B, T]``.

    ``goals`` holds the token that follows each position in its own text, and ``weights`` what its
    prediction weighs (0 = nothing follows).
    """

    ids: Tensor
    positions: Tensor
    goals: Tensor
    weights: Tensor
    shared: SharedPrefix
    layouts: LayoutBatch
    replies: tuple[Placed, ...]


def encode_document(
    index: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    form: Form | None = None,
    described: bool = True,
) -> TaughtText:
    """Return the tokens of document ``index`` of ``split``, see ``tell``."""
    told = tell(index, seed, tokenizer, CHAT_LESSONS, split=split, form=form, described=described)
    bos, user = int(tokenizer.bos_token_id), encode_text(tokenizer, "<|user|>")
    if isinstance(told, str):
        ids = [*encode_text(tokenizer, told), int(tokenizer.eos_token_id)]
        return TaughtText([bos], (Text(ids, [len(ids) ** -0.5] * len(ids), ()),))
    beginning, lead = [bos, *user], ""
    if told.layout is not None:
        beginning += [int(tokenizer.pad_token_id)] * LAYOUT_LENGTH
        lead = "\n"
    elif told.text is not None:
        beginning += encode_text(tokenizer, told.text)
        lead = "\n"
    rng = Random(f"texts/{seed}/{split}/{index}")
    texts = tuple(_encode_turns(turns, lead, tokenizer) for turns in _cut(told.turns, rng))
    return TaughtText(beginning, texts, told.layout, told.clean)


def encode_picture(
    scene: Scene, rng: Random, tokenizer: PreTrainedTokenizerBase, image: Sequence[int]
) -> TaughtText:
    """Return the tokens of a picture, given as ``image`` ids, with questions about it."""
    user = encode_text(tokenizer, "<|user|>")
    turns = scene_turns(scene, rng, LAST_LESSON)
    texts = tuple(_encode_turns(cut, "\n", tokenizer) for cut in _cut(turns, rng))
    return TaughtText([int(tokenizer.bos_token_id), *user, *image], texts)


def _cut(
    turns: Sequence[tuple[str, str, str]], rng: Random
) -> list[Sequence[tuple[str, str, str]]]:
    """Cut a scene's turns into single ones and conversations of a few."""
    cut, first = [], 0
    while first < len(turns):
        number = 1 if rng.random() < SINGLE_SHARE else rng.randint(2, MOST_TURNS)
        cut.append(turns[first : first + number])
        first += number
    return cut


def _encode_turns(
    turns: Sequence[tuple[str, str, str]], lead: str, tokenizer: PreTrainedTokenizerBase
) -> Text:
    """Return the chat of (kind, request, reply) turns that follows a beginning and ``lead``."""
    ids: list[int] = []
    weights: list[float] = []
    replies = []
    for kind, request, reply in turns:
        before = "<|user|>" if ids else lead
        asked = encode_text(tokenizer, f"{before}{request}<|assistant|>")
        replied = [*encode_text(tokenizer, f" {reply}"), int(tokenizer.eos_token_id)]
        start = len(ids) + len(asked)
        replies.append((kind, range(start, start + len(replied))))
        ids += asked + replied
        weights += [CONTEXT_WEIGHT] * len(asked)
        weights += [len(replied) ** -0.5] * len(replied)
    return Text(ids, weights, tuple(replies))


def batch_documents(documents: Sequence[TaughtText], pad: int) -> DocumentBatch:
    """Put documents side by side: beginnings padded on the right, texts packed into slots."""
    first = max(len(document.beginning) for document in documents)
    size = max(SLOT, *(len(text.ids) for document in documents for text in document.texts))
    packed = [_pack(document.texts, size) for document in documents]
    board = _Board(len(documents), first, max(len(slots) for slots in packed), size, pad)
    for row, (document, slots) in enumerate(zip(documents, packed, strict=True)):
        board.begin(row, document.beginning)
        for slot, texts in enumerate(slots):
            board.fill(row, slot, len(document.beginning), texts)
    same = board.owner[..., :, None] == board.owner[..., None, :]
    return DocumentBatch(
        ids=board.ids,
        positions=board.positions,
        goals=board.goals,
        weights=board.weights,
        shared=SharedPrefix(board.beginning, same.tril()),
        layouts=batch_layouts([(document.layout, document.clean) for document in documents]),
        replies=tuple(board.replies),
    )


class _Board:
    """The tensors of a batch while documents are written into them, see ``DocumentBatch``.

    ``owner`` ``[B, R, S]``: where the text of a position begins in its slot, -1 = padding.
    """

    def __init__(self, rows: int, first: int, slots: int, size: int, pad: int) -> None:
        self.first, self.size = first, size
        shape = (rows, first + slots * size)
        self.ids, self.goals = torch.full(shape, pad), torch.full(shape, pad)
        self.positions, self.weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        self.beginning = torch.zeros(rows, first, dtype=torch.bool)
        self.owner = torch.full((rows, slots, size), -1)
        self.replies: list[Placed] = []

    def begin(self, row: int, ids: Sequence[int]) -> None:
        """Write a document's beginning."""
        self.ids[row, : len(ids)] = torch.tensor(ids)
        self.positions[row, : len(ids)] = torch.arange(len(ids))
        self.beginning[row, : len(ids)] = True

    def fill(self, row: int, slot: int, before: int, texts: Sequence[Text]) -> None:
        """Write the texts of one slot; each follows a beginning of ``before`` tokens."""
        place = 0
        for text in texts:
            at = self.first + slot * self.size + place
            end = at + len(text.ids)
            self.ids[row, at:end] = torch.tensor(text.ids)
            self.goals[row, at : end - 1] = torch.tensor(text.ids[1:])
            self.weights[row, at : end - 1] = torch.tensor(text.weights[1:])
            self.positions[row, at:end] = before + torch.arange(len(text.ids))
            self.owner[row, slot, place : place + len(text.ids)] = place
            self.replies += [
                Placed(row, kind, at + span.start - 1, at + span.stop - 1)
                for kind, span in text.replies
            ]
            place += len(text.ids)


def _pack(texts: Sequence[Text], size: int) -> list[list[Text]]:
    """Put texts into as few slots of ``size`` positions as first-fit finds, longest first."""
    slots: list[tuple[int, list[Text]]] = []
    for text in sorted(texts, key=lambda text: -len(text.ids)):
        for index, (used, held) in enumerate(slots):
            if used + len(text.ids) <= size:
                held.append(text)
                slots[index] = (used + len(text.ids), held)
                break
        else:
            slots.append((len(text.ids), [text]))
    return [held for _, held in slots]
