"""Referring expressions: JSON lines per split, and RefCOCO's own files for all splits together.

``refs_{split}.jsonl`` holds one expression per line. ``refcoco/refs(unc).p`` and
``refcoco/instances.json`` are in the layout of lichengunc/refer: a pickle of protocol 2 with lists,
dictionaries, strings and integers only, so that a restricted reader can open it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from manyeyes.world.emit.coco import instances
from manyeyes.world.emit.scenes import xywh
from manyeyes.world.emit.split import SplitWorld, annotation_id, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes, jsonl_bytes
from manyeyes.world.language.references import Reference
from manyeyes.world.scene import SHAPES, Scene


def emit_refs(world: SplitWorld) -> Files:
    """Write one line per expression: image, expression and box (x, y, width, height)."""
    rows = [
        {
            "id": sentence_id(scene, position, number),
            "image": file_name(scene),
            "image_id": image_id(scene),
            "expression": reference.text,
            "bbox": xywh(scene.objects[position]),
            "ref_id": annotation_id(scene, position),
            "ann_id": annotation_id(scene, position),
        }
        for scene, position, references in _named_objects(world)
        for number, reference in enumerate(references)
    ]
    return {f"annotations/refs_{world.name}.jsonl": jsonl_bytes(rows)}


def emit_refcoco(worlds: Sequence[SplitWorld]) -> Files:
    """Write RefCOCO's pickle and its instances for all splits of a world."""
    refs = [
        _ref(scene, position, references)
        for world in worlds
        for scene, position, references in _named_objects(world)
    ]
    plain = json.loads(json.dumps(refs))  # equal objects become separate ones: stable pickle bytes
    return {
        "annotations/refcoco/refs(unc).p": pickle.dumps(plain, protocol=2),
        "annotations/refcoco/instances.json": json_bytes(instances(list(worlds))),
    }


def sentence_id(scene: Scene, position: int, number: int) -> int:
    """Return the id of expression ``number`` of object ``position``."""
    return annotation_id(scene, position) * 10 + number


def _named_objects(world: SplitWorld) -> Iterator[tuple[Scene, int, list[Reference]]]:
    for scene, objects in zip(world.scenes, world.references, strict=True):
        for position, references in enumerate(objects):
            if references:
                yield scene, position, references


def _ref(scene: Scene, position: int, references: list[Reference]) -> dict[str, Any]:
    ids = [sentence_id(scene, position, number) for number in range(len(references))]
    return {
        "ref_id": annotation_id(scene, position),
        "ann_id": annotation_id(scene, position),
        "image_id": image_id(scene),
        "category_id": SHAPES.index(scene.objects[position].shape) + 1,
        "split": scene.split,
        "file_name": file_name(scene),
        "sent_ids": ids,
        "sentences": [
            {"sent_id": number, "sent": r.text, "raw": r.text, "tokens": r.text.split()}
            for number, r in zip(ids, references, strict=True)
        ],
    }
