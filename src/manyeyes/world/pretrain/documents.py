"""Documents of the world without images, from which the shipped language model learns to read.

A document is a conversation in the chat format. Where an image would stand, the first user turn has
the scene in words: as a description, or as a layout (see ``layouts``); then come questions of every
kind the world asks, with their answers. No document holds an image, and none comes from a scene of
any data split of the same seed. Shapes: B documents, T tokens, L layouts, N cells, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.records import BOXES_PLACEHOLDER
from manyeyes.world.language.captions import caption
from manyeyes.world.language.descriptions import box_text, description
from manyeyes.world.language.dialogue import KIND_WEIGHTS, PLACE_KINDS, Exchange, exchanges
from manyeyes.world.pretrain.layouts import CELLS, mix_words
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import Scene

SEED_OFFSET = 7_000_003
"""Added to the seed, so that no document describes a scene that data sets of that seed show."""

Form = Literal["words", "layout"]
"""How a document tells its scene: as a description in words, or as a layout."""

LAYOUT_START = 2
"""Position of a layout's first cell: after the document's and the user's marker, as an image's."""

EXCHANGES = 20
CAPTIONED_SHARE = 0.3
"""Share of conversations that ask for a caption: a long reply that teaches little reading."""

PLAIN_SHARE = 0.04
"""Share of documents that are a bare caption."""


PLACELESS_SHARE = 0.6
"""Share of descriptions without boxes."""

REPEAT_SHARE = 0.3
REPEAT_REQUEST = "Repeat the description."
"""Copying a text is the first step towards reading it; only texts without boxes are copied."""

TEXT_WEIGHTS: dict[str, float] = {
    **KIND_WEIGHTS, "rec": 1.0, "related": 0.3, "relation": 0.5, "describe": 4.0
}  # fmt: skip
"""How often each kind is asked of a description: comparing written coordinates is hard to learn."""

LAYOUT_WEIGHTS: dict[str, float] = {**KIND_WEIGHTS, "rec": 1.0, "describe": 5.0}
"""How often each kind is asked of a layout. Describing an object teaches most: every word of the
reply asks for the same object."""

BINDING_KINDS = ("color", "describe", "mark", "shape", "size", "texture")
"""Kinds that ask for one object by its looks: to answer is to find it and to read it."""


@dataclass(frozen=True)
class Lesson:
    """What documents below index ``end`` of the training split are like.

    ``objects``: least and most objects. ``kinds``: the kinds asked of layouts (None: all).
    ``words``: share of descriptions. ``clean``: layouts name every cell and leave no word out.
    """

    end: int
    objects: tuple[int, int] | None = None
    kinds: tuple[str, ...] | None = None
    words: float = 0.0
    clean: bool = True


LESSONS = (
    Lesson(6_000, (2, 2), BINDING_KINDS),
    Lesson(12_000, (2, 4), (*BINDING_KINDS, "count", "exist", "presence", "region")),
    Lesson(16_000, clean=False),
)
"""The first documents, easiest first: in short trials, a model that met everything at once had not
learnt to find the object that is asked for when one that met two objects first long had."""

LAST_LESSON = Lesson(0, words=0.25, clean=False)
"""What all later documents are like, and those of other splits."""

CONTEXT_WEIGHT = 0.02
"""Loss weight of a token that is not in a reply. A token of an n-token reply weighs 1/sqrt(n), so
that long captions, whose wording nobody can foresee, do not drown short answers."""

IGNORED = -100


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
    """Right-padded documents: ``ids`` ``[B, T]`` and ``weights`` ``[B, T]`` (0 = padding).

    ``layouts`` ``[L, N, V]`` belong to the documents ``rows`` ``[L]``; ``noisy`` ``[L]`` is 0 for
    clean ones, else 1.
    """

    ids: Tensor
    weights: Tensor
    rows: Tensor
    layouts: Tensor
    noisy: Tensor


def document_scene(split: str, index: int, seed: int, *, count: int | None = None) -> Scene:
    """Return the scene that document ``index`` describes."""
    return sample_scene(split, index, seed + SEED_OFFSET, count=count)


def conversation(
    scene: Scene, rng: Random, *, described: bool = True
) -> list[tuple[str, str, str]]:
    """Return (kind, user text, reply) turns; the first user text begins with the description.

    Some descriptions leave the boxes out; then nothing is asked that needs to know places. Without
    ``described`` the same questions are asked about a scene that nobody describes.
    """
    boxes = rng.random() >= PLACELESS_SHARE
    weights = {k: w for k, w in TEXT_WEIGHTS.items() if boxes or k not in PLACE_KINDS}
    turns = _turns(scene, rng, weights)
    text = description(scene, rng, boxes=boxes)
    if not described:
        return turns
    if not boxes and rng.random() < REPEAT_SHARE:
        turns.insert(rng.randrange(len(turns) + 1), ("repeat", REPEAT_REQUEST, text))
    kind, request, reply = turns[0]
    return [(kind, f"{text}\n{request}", reply), *turns[1:]]


def _turns(
    scene: Scene, rng: Random, weights: Mapping[str, float], captioned: float = CAPTIONED_SHARE
) -> list[tuple[str, str, str]]:
    return [
        (exchange.kind, *_with_boxes(exchange, scene))
        for exchange in exchanges(
            scene, rng, EXCHANGES, weights=weights, captioned=rng.random() < captioned
        )
    ]


def corpus(number: int, seed: int) -> Iterator[str]:
    """Yield the texts that the tokenizer is trained on: those of ``number`` conversations."""
    for index in range(number):
        rng = Random(f"corpus/{seed}/{index}")
        for _, request, reply in conversation(document_scene("train", index, seed), rng):
            yield request
            yield f" {reply}"


def encode_document(
    index: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    form: Form | None = None,
    described: bool = True,
) -> Document:
    """Return document ``index`` of ``split``; equal arguments give equal documents.

    ``form`` asks for a conversation of that form; by default the document draws its own, and some
    are bare captions. Without ``described`` nothing tells of the scene that is asked about.
    """
    rng = Random(f"document/{seed}/{split}/{index}")
    lesson = _lesson(index) if split == "train" else LAST_LESSON
    count = rng.randint(*lesson.objects) if lesson.objects else None
    scene = document_scene(split, index, seed, count=count)
    if form is None and lesson.kinds is None and rng.random() < PLAIN_SHARE:
        ids = [tokenizer.bos_token_id, *_encode(tokenizer, caption(scene, rng))]
        ids.append(tokenizer.eos_token_id)
        return Document(ids, [1.0] * len(ids), ())
    if form is None:
        form = "words" if rng.random() < lesson.words else "layout"
    if form == "words":
        return _encode_turns(conversation(scene, rng, described=described), tokenizer)
    layout = mix_words(scene, rng, tokenizer, clean=lesson.clean) if described else None
    turns = _turns(scene, rng, _layout_weights(lesson), CAPTIONED_SHARE * (lesson.kinds is None))
    return _encode_turns(turns, tokenizer, layout, clean=lesson.clean)


def _lesson(index: int) -> Lesson:
    return next((lesson for lesson in LESSONS if index < lesson.end), LAST_LESSON)


def _layout_weights(lesson: Lesson) -> dict[str, float]:
    kinds = LAYOUT_WEIGHTS if lesson.kinds is None else lesson.kinds
    return {kind: LAYOUT_WEIGHTS[kind] for kind in kinds}


def batch_documents(documents: Sequence[Document], pad: int) -> DocumentBatch:
    """Put documents into one right-padded batch."""
    longest = max(len(document.ids) for document in documents)
    ids = torch.full((len(documents), longest), pad)
    weights = torch.zeros(len(documents), longest)
    for row, document in enumerate(documents):
        ids[row, : len(document.ids)] = torch.tensor(document.ids)
        weights[row, : len(document.ids)] = torch.tensor(document.weights)
    found = [(row, d.layout) for row, d in enumerate(documents) if d.layout is not None]
    rows = torch.tensor([row for row, _ in found], dtype=torch.long)
    layouts = torch.stack([layout for _, layout in found]) if found else torch.empty(0, CELLS, 0)
    noisy = torch.tensor([0.0 if documents[row].clean else 1.0 for row, _ in found])
    return DocumentBatch(ids, weights, rows, layouts, noisy)


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
            lead = [*_encode(tokenizer, "<|user|>"), *[int(tokenizer.pad_token_id)] * len(layout)]
            ids += lead
            weights += [0.0] * len(lead)
            asked = _encode(tokenizer, f"\n{request}<|assistant|>")
        else:
            asked = _encode(tokenizer, f"<|user|>{request}<|assistant|>")
        replied = [*_encode(tokenizer, f" {reply}"), int(tokenizer.eos_token_id)]
        start = len(ids) + len(asked)
        replies.append((kind, range(start, start + len(replied))))
        ids += asked + replied
        weights += [CONTEXT_WEIGHT] * len(asked)
        weights += [len(replied) ** -0.5] * len(replied)
    return Document(ids, weights, tuple(replies), layout, clean)


def _with_boxes(exchange: Exchange, scene: Scene) -> tuple[str, str]:
    """Write the exchange's boxes as text where ``<boxes>`` stands."""
    texts = [box_text(scene, box) for box in exchange.boxes]
    request, reply = exchange.request, exchange.reply
    for text in texts:
        if BOXES_PLACEHOLDER in request:
            request = request.replace(BOXES_PLACEHOLDER, text, 1)
        else:
            reply = reply.replace(BOXES_PLACEHOLDER, text, 1)
    return request, reply


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
