"""Documents of the world without images, from which the shipped language model learns to read.

Where an image would stand, a document has the scene in words: as a description, or as a layout (see
``layouts``); then come questions of every kind the world asks, with their answers. No document
holds an image, and none comes from a scene of any data split of the same seed. ``chats``
says how the language model reads a document. Shapes: N cells, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.data.readers.prompts import CAPTION_PROMPT
from manyeyes.records import BOXES_PLACEHOLDER
from manyeyes.world.language.captions import caption
from manyeyes.world.language.descriptions import box_text, description
from manyeyes.world.language.dialogue import PLACE_KINDS, Exchange, exchanges
from manyeyes.world.pretrain.language.layouts import mix_words
from manyeyes.world.pretrain.language.lessons import EXCHANGES, LAST_LESSON, Lesson, lesson_of
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import Scene

SEED_OFFSET = 7_000_003
"""Added to the seed, so that no document describes a scene that data sets of that seed show."""

Form = Literal["words", "layout"]
"""How a document tells its scene: as a description in words, or as a layout."""

CAPTIONED_SHARE = 0.3
"""Share of conversations that ask for a caption among their questions."""

PLAIN_SHARE = 0.04
"""Share of documents that are a bare caption."""

REPEAT_SHARE = 0.3
REPEAT_REQUEST = "Repeat the description."
"""Copying a text is the first step towards reading it; only texts without boxes are copied."""


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
    return _tell_in_words(scene, rng, described, Lesson(0, captions=True), EXCHANGES).conversation()


def _tell_in_words(scene: Scene, rng: Random, described: bool, lesson: Lesson, number: int) -> Told:
    boxes = rng.random() >= lesson.placeless
    weights = {k: w for k, w in lesson.text_weights.items() if boxes or k not in PLACE_KINDS}
    turns = _turns(scene, rng, number, weights, lesson)
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
    lesson: Lesson,
) -> list[tuple[str, str, str]]:
    """Return up to ``number`` turns, some of which ask for captions where the lesson has them."""
    asked = rng.random() < lesson.captions * CAPTIONED_SHARE * number / EXCHANGES
    turns = [
        (exchange.kind, *_with_boxes(exchange, scene))
        for exchange in exchanges(scene, rng, number, weights=weights, captioned=asked)
    ]
    for _ in range(lesson.more_captions * number // EXCHANGES):
        turns[rng.randrange(len(turns))] = ("caption", CAPTION_PROMPT, caption(scene, rng))
    return turns


def scene_turns(scene: Scene, rng: Random, lesson: Lesson) -> list[tuple[str, str, str]]:
    """Return what ``lesson`` asks about a scene that is shown, not told: (kind, request, reply)."""
    return _turns(scene, rng, lesson.exchanges, lesson.layout_weights, lesson)


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
    lessons: Sequence[Lesson],
    *,
    split: str = "train",
    form: Form | None = None,
    described: bool = True,
    captions: bool = True,
    number: int | None = None,
) -> Told | str:
    """Draw document ``index`` of ``split``; equal arguments, equal documents.

    ``form`` asks for a conversation of that form; by default the document draws its own, and with
    ``captions`` some are bare captions, returned as strings. It has ``number`` turns, by default as
    many as its lesson says. Without ``described`` nothing tells of the scene that is asked about.
    """
    rng = Random(f"document/{seed}/{split}/{index}")
    lesson = lesson_of(index, lessons) if split == "train" else LAST_LESSON
    number = lesson.exchanges if number is None else number
    count = rng.randint(*lesson.objects) if lesson.objects else None
    scene = document_scene(split, index, seed, count=count)
    if captions and form is None and lesson.captions and rng.random() < PLAIN_SHARE:
        return caption(scene, rng)
    if form is None:
        form = "words" if rng.random() < lesson.words else "layout"
    if form == "words":
        return _tell_in_words(scene, rng, described, lesson, number)
    layout = mix_words(scene, rng, tokenizer, clean=lesson.clean) if described else None
    turns = _turns(scene, rng, number, lesson.layout_weights, lesson)
    return Told(tuple(turns), layout=layout, clean=lesson.clean)


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
