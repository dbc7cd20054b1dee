"""Referring expressions: JSON lines per split, and RefCOCO's own files for all splits together.

``refs_{split}.jsonl`` holds one expression per line. The rest is in the layout of lichengunc/refer:
a pickle with ``instances.json`` beside it. The pickle is of protocol 2 and holds lists,
dictionaries, strings and integers only, so that a restricted reader can open it.

    refcoco/refs(unc).p    all expressions; the test split is ``testA`` and ``testB``, two families
    refcoco+/refs(unc).p   the same without expressions that name a place or another object
    refcocog/refs(umd).p   all expressions under the world's own splits
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manyeyes.world.emit.coco import instances
from manyeyes.world.emit.scenes import xywh
from manyeyes.world.emit.split import SplitWorld, annotation_id, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes, jsonl_bytes
from manyeyes.world.language.references import Reference
from manyeyes.world.scene import SHAPES, Scene

FAMILIES = {"testA": ("circle", "cross"), "testB": ("square", "triangle")}
"""Shapes of RefCOCO's two test splits, which in photographs are people and all other things."""

_PLACES = ("relate", "extreme")


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
    return _pickled(worlds, "refcoco/refs(unc).p", families=True)


def emit_refcoco_more(worlds: Sequence[SplitWorld]) -> Files:
    """Write the pickles of RefCOCO+ and RefCOCOg with their instances."""
    plus = _pickled(worlds, "refcoco+/refs(unc).p", families=True, looks_only=True)
    return {**plus, **_pickled(worlds, "refcocog/refs(umd).p", families=False)}


def _pickled(
    worlds: Sequence[SplitWorld], name: str, *, families: bool, looks_only: bool = False
) -> Files:
    refs = [
        _ref(scene, position, chosen, families)
        for world in worlds
        for scene, position, references in _named_objects(world)
        if (chosen := dict(_numbered(references, looks_only)))
    ]
    plain = json.loads(json.dumps(refs))  # equal objects become separate ones: stable pickle bytes
    folder = name.partition("/")[0]
    return {
        f"annotations/{name}": pickle.dumps(plain, protocol=2),
        f"annotations/{folder}/instances.json": json_bytes(instances(list(worlds))),
    }


def _numbered(references: Sequence[Reference], looks_only: bool) -> Iterator[tuple[int, Reference]]:
    for number, reference in enumerate(references):
        if not looks_only or all(step.function not in _PLACES for step in reference.program):
            yield number, reference


def sentence_id(scene: Scene, position: int, number: int) -> int:
    """Return the id of expression ``number`` of object ``position``."""
    return annotation_id(scene, position) * 10 + number


def _named_objects(world: SplitWorld) -> Iterator[tuple[Scene, int, list[Reference]]]:
    for scene, objects in zip(world.scenes, world.references, strict=True):
        for position, references in enumerate(objects):
            if references:
                yield scene, position, references


def _ref(
    scene: Scene, position: int, references: Mapping[int, Reference], families: bool
) -> dict[str, Any]:
    shape = scene.objects[position].shape
    split = scene.split
    if families and split == "test":
        split = next(name for name, shapes in FAMILIES.items() if shape in shapes)
    ids = [sentence_id(scene, position, number) for number in references]
    return {
        "ref_id": annotation_id(scene, position),
        "ann_id": annotation_id(scene, position),
        "image_id": image_id(scene),
        "category_id": SHAPES.index(shape) + 1,
        "split": split,
        "file_name": file_name(scene),
        "sent_ids": ids,
        "sentences": [
            {"sent_id": number, "sent": r.text, "raw": r.text, "tokens": r.text.split()}
            for number, r in zip(ids, references.values(), strict=True)
        ],
    }
