"""GVTBench's rows of counting and identification: ``annotations/{split}_{oc,mci}.json``.

``n_obj_exist`` is the number of objects in the image. Kinds of objects are shapes for counting,
colour and shape for identification. The picture's file name stands under ``image``, which the
official files do not have.
"""

from __future__ import annotations

from typing import Any

from manyeyes.world.emit.split import SplitWorld, file_name, image_id, talk
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.presence import ask_presence
from manyeyes.world.language.words import plural, with_article
from manyeyes.world.scene import Scene

PRESENCE_PER_IMAGE = 2


def emit_gvt(world: SplitWorld) -> Files:
    """Write a counting row per shape that is there, and two identification rows per image."""
    rows = {
        "oc": [row for scene in world.scenes for row in _counting(scene)],
        "mci": [row for scene in world.scenes for row in _identification(scene)],
    }
    return {
        f"annotations/{world.name}_{task}.json": json_bytes(found) for task, found in rows.items()
    }


def _counting(scene: Scene) -> list[dict[str, Any]]:
    shapes = [item.shape for item in scene.objects]
    return [
        _row(scene, f"How many {plural(shape)} are there in the image?", str(shapes.count(shape)))
        for shape in dict.fromkeys(shapes)
    ]


def _identification(scene: Scene) -> list[dict[str, Any]]:
    rng = talk(scene, "gvt")
    asked = {q.label: q for q in (ask_presence(scene, rng) for _ in range(PRESENCE_PER_IMAGE))}
    return [
        _row(
            scene,
            f"Does {with_article(label)} exist in the image?",
            "Yes." if question.present else "No.",
        )
        for label, question in asked.items()
    ]


def _row(scene: Scene, question: str, answer: str) -> dict[str, Any]:
    return {
        "image_id": image_id(scene),
        "image": file_name(scene),
        "text_in": question,
        "text_out": answer,
        "n_obj_exist": len(scene.objects),
    }
