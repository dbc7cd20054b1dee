"""LLaVA JSON for training: ``llava/{split}.json``, boxes and captions only: ``{split}_boxes.json``,
``{split}_captions.json``.

An image's exchanges are cut into conversations of several turns. ``boxes`` is an extension: one
group of boxes (pixels, x1, y1, x2, y2) per ``<boxes>`` of the conversation, in order.
"""

from __future__ import annotations

from typing import Any

from manyeyes.data.readers.prompts import CAPTION_PROMPT
from manyeyes.records import IMAGE_PLACEHOLDER
from manyeyes.world.emit.split import SplitWorld, file_name, image_id, talk
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.dialogue import Exchange, exchanges
from manyeyes.world.scene import Scene

EXCHANGES_PER_IMAGE = 10
TURNS_PER_CONVERSATION = 5

BOX_WEIGHTS = {"rec": 6.0, "region": 1.0}
"""How often each kind is drawn where all is about boxes. Among many kinds they are learnt late."""


def emit_llava(world: SplitWorld) -> Files:
    """Write all kinds of exchanges, several turns per conversation."""
    records = []
    for scene in world.scenes:
        drawn = exchanges(scene, talk(scene, "llava"), EXCHANGES_PER_IMAGE)
        for number, first in enumerate(range(0, len(drawn), TURNS_PER_CONVERSATION)):
            turns = drawn[first : first + TURNS_PER_CONVERSATION]
            records.append(_record(scene, f"{image_id(scene)}-{number}", turns))
    return {f"llava/{world.name}.json": json_bytes(records)}


def emit_llava_boxes(world: SplitWorld) -> Files:
    """Write one conversation per image about where its objects are and what is where."""
    records = []
    for scene in world.scenes:
        drawn = exchanges(
            scene,
            talk(scene, "boxes"),
            EXCHANGES_PER_IMAGE,
            weights=BOX_WEIGHTS,
            captioned=False,
        )
        records.append(_record(scene, f"{image_id(scene)}-boxes", drawn))
    return {f"llava/{world.name}_boxes.json": json_bytes(records)}


def emit_llava_captions(world: SplitWorld) -> Files:
    """Write one caption per image, the first of its COCO captions, for alignment."""
    records = [
        _record(
            scene, f"{image_id(scene)}-caption", [Exchange("caption", CAPTION_PROMPT, texts[0])]
        )
        for scene, texts in zip(world.scenes, world.captions, strict=True)
    ]
    return {f"llava/{world.name}_captions.json": json_bytes(records)}


def _record(scene: Scene, identity: str, turns: list[Exchange]) -> dict[str, Any]:
    messages = []
    for number, turn in enumerate(turns):
        lead = f"{IMAGE_PLACEHOLDER}\n" if number == 0 else ""
        messages.append({"from": "human", "value": lead + turn.request})
        messages.append({"from": "gpt", "value": turn.reply})
    record: dict[str, Any] = {
        "id": identity,
        "image": file_name(scene),
        "conversations": messages,
    }
    boxes = [[list(box)] for turn in turns for box in turn.boxes]
    return {**record, "boxes": boxes} if boxes else record
