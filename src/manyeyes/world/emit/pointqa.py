"""Shikra's PointQA files: ``annotations/{pointQA_local,pointQA_twice,v7w_pointing}_{split}.jsonl``.

    local   one attribute of the object that a box or a point shows
    twice   how many objects have the shape of the one shown
    v7w     the questions of `visual7w`, answered with a box or a point

Boxes are [x1, y1, x2, y2] in pixels, points lie on the object's centre.
"""

from __future__ import annotations

from typing import Any

from manyeyes.world.emit.split import SplitWorld, file_name, talk
from manyeyes.world.emit.text import Files, jsonl_bytes
from manyeyes.world.emit.visual7w import pointing
from manyeyes.world.language.object_questions import TEMPLATES
from manyeyes.world.language.words import plural
from manyeyes.world.scene import Scene, WorldObject


def emit_pointqa(world: SplitWorld) -> Files:
    """Write the three files of a split."""
    places = [(scene, place) for scene in world.scenes for place in range(len(scene.objects))]
    pointed = [
        _pointing(*found)
        for scene, references in zip(world.scenes, world.references, strict=True)
        for found in pointing(scene, references)
    ]
    files = {
        "pointQA_local": [_local(scene, place) for scene, place in places],
        "pointQA_twice": [_twice(scene, scene.objects[place]) for scene, place in places],
        "v7w_pointing": pointed,
    }
    return {
        f"annotations/{name}_{world.name}.jsonl": jsonl_bytes(rows) for name, rows in files.items()
    }


def _local(scene: Scene, place: int) -> dict[str, Any]:
    rng = talk(scene, f"local-{place}")
    attribute = rng.choice(sorted(TEMPLATES))
    item = scene.objects[place]
    question = TEMPLATES[attribute][0].format("this object")
    return {**_shown(scene, item), "question": question, "answer": getattr(item, attribute)}


def _twice(scene: Scene, item: WorldObject) -> dict[str, Any]:
    count = sum(other.shape == item.shape for other in scene.objects)
    return {
        **_shown(scene, item),
        "general_question": "How many of these are there?",
        "obj_question": f"How many {plural(item.shape)} are there?",
        "super_question": "How many objects of this shape are there?",
        "answer": str(count),
    }


def _pointing(scene: Scene, question: str, position: int, wrong: list[int]) -> dict[str, Any]:
    places = sorted([position, *wrong])
    return {
        "file_path": file_name(scene),
        "question": question,
        "candidates": [list(scene.objects[place].box) for place in places],
        "answer": list(scene.objects[position].box),
        "point": [scene.objects[position].x, scene.objects[position].y],
    }


def _shown(scene: Scene, item: WorldObject) -> dict[str, Any]:
    return {"file_path": file_name(scene), "bbox": list(item.box), "point": [item.x, item.y]}
