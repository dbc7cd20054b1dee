"""Documents of the world without images, from which the shipped language models learn to read.

Where an image would stand, a document has the scene in words: as a description, or as a layout (see
``layouts``); then come questions of every kind the world asks, with their answers. No document
holds an image, and none comes from a scene of any data split of the same seed. ``chats`` and
``passages`` say how either kind of language model reads a document. Shapes: N cells, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.records import BOXES_PLACEHOLDER
from manyeyes.world.language.captions import caption
from manyeyes.world.language.descriptions import box_text, description
from manyeyes.world.language.dialogue import KIND_WEIGHTS, PLACE_KINDS, Exchange, exchanges
from manyeyes.world.pretrain.layouts import mix_words
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import Scene

SEED_OFFSET = 7_000_003
"""Added to the seed, so that no document describes a scene that data sets of that seed show."""

Form = Literal["words", "layout"]
"""How a document tells its scene: as a description in words, or as a layout."""

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


@dataclass(frozen=True)
class Told:
    """A scene told in words, and (kind, request, reply) exchanges about it; nothing is tokenised.

    At most one of ``text``, a description, and ``layout`` ``[N, V]`` is there; a ``clean`` layout
    gets no noise.
    """

    turns: tuple[tuple[str, str, str], ...]
    text: str | None = None
    layout: Tensor | None = None
    clean: bool = False

    def conversation(self) -> list[tuple[str, str, str]]:
        """Return the turns, with the description before the first request."""
        if self.text is None:
            return list(self.turns)
        kind, request, reply = self.turns[0]
        return [(kind, f"{self.text}\n{request}", reply), *self.turns[1:]]


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
    return _tell_in_words(scene, rng, described, EXCHANGES).conversation()


def _tell_in_words(scene: Scene, rng: Random, described: bool, number: int) -> Told:
    boxes = rng.random() >= PLACELESS_SHARE
    weights = {k: w for k, w in TEXT_WEIGHTS.items() if boxes or k not in PLACE_KINDS}
    turns = _turns(scene, rng, number, weights)
    text = description(scene, rng, boxes=boxes)
    if not described:
        return Told(tuple(turns))
    if not boxes and rng.random() < REPEAT_SHARE:
        turns.insert(rng.randrange(len(turns) + 1), ("repeat", REPEAT_REQUEST, text))
    return Told(tuple(turns), text=text)


def _turns(
    scene: Scene,
    rng: Random,
    number: int,
    weights: Mapping[str, float],
    captioned: float = CAPTIONED_SHARE,
) -> list[tuple[str, str, str]]:
    """Return up to ``number`` turns; ``captioned``: share of ``EXCHANGES`` turns with a caption."""
    asked = rng.random() < captioned * number / EXCHANGES
    return [
        (exchange.kind, *_with_boxes(exchange, scene))
        for exchange in exchanges(scene, rng, number, weights=weights, captioned=asked)
    ]


def corpus(number: int, seed: int) -> Iterator[str]:
    """Yield the texts that the tokenizer is trained on: those of ``number`` conversations."""
    for index in range(number):
        rng = Random(f"corpus/{seed}/{index}")
        for _, request, reply in conversation(document_scene("train", index, seed), rng):
            yield request
            yield f" {reply}"


def tell(
    index: int,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    split: str = "train",
    form: Form | None = None,
    described: bool = True,
    captions: bool = True,
    number: int = EXCHANGES,
) -> Told | str:
    """Draw document ``index`` of ``split`` with ``number`` turns; equal arguments, equal documents.

    ``form`` asks for a conversation of that form; by default the document draws its own, and with
    ``captions`` some are bare captions, returned as strings. Without ``described`` nothing tells of
    the scene that is asked about.
    """
    rng = Random(f"document/{seed}/{split}/{index}")
    lesson = _lesson(index) if split == "train" else LAST_LESSON
    count = rng.randint(*lesson.objects) if lesson.objects else None
    scene = document_scene(split, index, seed, count=count)
    if captions and form is None and lesson.kinds is None and rng.random() < PLAIN_SHARE:
        return caption(scene, rng)
    if form is None:
        form = "words" if rng.random() < lesson.words else "layout"
    if form == "words":
        return _tell_in_words(scene, rng, described, number)
    layout = mix_words(scene, rng, tokenizer, clean=lesson.clean) if described else None
    captioned = CAPTIONED_SHARE * (lesson.kinds is None)
    turns = _turns(scene, rng, number, _layout_weights(lesson), captioned)
    return Told(tuple(turns), layout=layout, clean=lesson.clean)


def _lesson(index: int) -> Lesson:
    return next((lesson for lesson in LESSONS if index < lesson.end), LAST_LESSON)


def _layout_weights(lesson: Lesson) -> dict[str, float]:
    kinds = LAYOUT_WEIGHTS if lesson.kinds is None else lesson.kinds
    return {kind: LAYOUT_WEIGHTS[kind] for kind in kinds}


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


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of ``text`` alone, without the tokenizer's own special tokens."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
