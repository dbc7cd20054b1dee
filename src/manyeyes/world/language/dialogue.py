"""Exchanges: every kind of request that people make about an image, each with its reply.

Requests use the wording of the benchmarks for most exchanges and other wordings for the rest.
``<boxes>`` stands where a box belongs, as in ``records.Turn``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from manyeyes.data.readers.prompts import CAPTION_PROMPT, REC_PROMPT
from manyeyes.records import BOXES_PLACEHOLDER, Box
from manyeyes.world.language.captions import caption
from manyeyes.world.language.phrases import describe, filters_of, noun_phrase
from manyeyes.world.language.presence import ask_presence
from manyeyes.world.language.questions import QUESTION_KINDS, ask
from manyeyes.world.language.references import refer
from manyeyes.world.language.words import ATTRIBUTES, with_article
from manyeyes.world.scene import Scene

REGION_REQUEST = f"What is at {BOXES_PLACEHOLDER}?"

DESCRIBE_REQUEST = "Describe the {expression}."

_CAPTION_REQUESTS = (CAPTION_PROMPT,) * 4 + ("What is in the image?", "Write a caption.")
_REC_REQUESTS = (REC_PROMPT,) * 4 + ("Give the box of {expression}.", "Find {expression}.")

KIND_WEIGHTS: dict[str, float] = {
    **dict.fromkeys(QUESTION_KINDS, 1.0),
    "presence": 2.0,
    "rec": 2.5,
    "region": 0.5,
    "describe": 2.0,
}
"""How often each kind of exchange is drawn; captions are asked for separately."""

PLACE_KINDS = frozenset({"rec", "region", "related", "relation"})
"""Kinds that need to know where objects are."""


@dataclass(frozen=True)
class Exchange:
    """One request and its reply; ``boxes`` are those of their ``<boxes>``, in pixels."""

    kind: str
    request: str
    reply: str
    boxes: tuple[Box, ...] = ()


def exchanges(
    scene: Scene,
    rng: Random,
    number: int,
    *,
    weights: Mapping[str, float] = KIND_WEIGHTS,
    captioned: bool = True,
) -> list[Exchange]:
    """Return up to ``number`` different exchanges about ``scene``, in random order.

    If ``captioned``, one of them asks for a caption; ``weights`` says how often each other kind is
    drawn.
    """
    found: dict[str, Exchange] = {}
    if captioned:
        request = rng.choice(_CAPTION_REQUESTS)
        found[request] = Exchange("caption", request, caption(scene, rng))
    kinds = rng.choices(list(weights), list(weights.values()), k=4 * number)
    for kind in kinds:
        if len(found) >= number:
            break
        exchange = exchange_of(kind, scene, rng)
        if exchange is not None:
            found.setdefault(exchange.request + str(exchange.boxes), exchange)
    result = list(found.values())
    rng.shuffle(result)
    return result


def exchange_of(kind: str, scene: Scene, rng: Random) -> Exchange | None:
    """Return an exchange of ``kind`` (a key of ``KIND_WEIGHTS``), or None if there is none."""
    if kind == "presence":
        presence = ask_presence(scene, rng)
        return Exchange(kind, presence.text, presence.answer)
    if kind == "rec":
        return _rec(scene, rng)
    if kind == "region":
        return _region(scene, rng)
    if kind == "describe":
        return _describe(scene, rng)
    question = ask(kind, scene, rng)
    return None if question is None else Exchange(kind, question.text, question.answer)


def _rec(scene: Scene, rng: Random) -> Exchange | None:
    target = rng.randrange(len(scene.objects))
    reference = refer(scene, target, rng)
    if reference is None:
        return None
    request = rng.choice(_REC_REQUESTS).format(expression=reference.text)
    return Exchange("rec", request, BOXES_PLACEHOLDER, (scene.objects[target].box,))


def _describe(scene: Scene, rng: Random) -> Exchange | None:
    """Ask for all attributes of one object, also those that captions leave out."""
    target = rng.randrange(len(scene.objects))
    filters = describe(scene, target, rng)
    if filters is None:
        return None
    request = DESCRIBE_REQUEST.format(expression=noun_phrase(filters))
    reply = with_article(noun_phrase(filters_of(scene.objects[target], ATTRIBUTES)))
    return Exchange("describe", request, reply)


def _region(scene: Scene, rng: Random) -> Exchange:
    item = rng.choice(scene.objects)
    reply = with_article(noun_phrase(filters_of(item, ("size", "color", "shape"))))
    return Exchange("region", REGION_REQUEST, reply, (item.box,))
