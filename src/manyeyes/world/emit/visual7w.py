"""Visual7W's pointing file: ``visual7w-pointing/dataset.json``, four boxes to a question.

Scenes with at least four objects; the question is about one of them, three others are the wrong
boxes. One file holds all splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from manyeyes.world.emit.scenes import xywh
from manyeyes.world.emit.split import SplitWorld, annotation_id, file_name, image_id, talk
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.references import Reference
from manyeyes.world.scene import Scene

CANDIDATES = 4


def emit_visual7w(worlds: Sequence[SplitWorld]) -> Files:
    """Write one question for every object that an expression singles out."""
    images, boxes = [], []
    for world in worlds:
        for scene, references in zip(world.scenes, world.references, strict=True):
            pairs = [_pair(*pointed) for pointed in pointing(scene, references)]
            if pairs:
                entry = {
                    "image_id": image_id(scene),
                    "filename": file_name(scene),
                    "split": scene.split,
                    "qa_pairs": pairs,
                }
                images.append(entry)
                boxes += _boxes(scene)
    content = {"dataset": "visual7w-pointing", "images": images, "boxes": boxes}
    return {"visual7w-pointing/dataset.json": json_bytes(content)}


def pointing(
    scene: Scene, references: list[list[Reference]]
) -> Iterator[tuple[Scene, str, int, list[int]]]:
    """Yield a question per object with the object's position and three other positions."""
    if len(scene.objects) < CANDIDATES:
        return
    rng = talk(scene, "pointing")
    for position, found in enumerate(references):
        others = [other for other in range(len(scene.objects)) if other != position]
        if found:
            wrong = rng.sample(others, CANDIDATES - 1)
            yield scene, f"Which object is {found[0].text}?", position, wrong


def _pair(scene: Scene, question: str, position: int, wrong: list[int]) -> dict[str, Any]:
    return {
        "qa_id": annotation_id(scene, position),
        "image_id": image_id(scene),
        "question": question,
        "answer": annotation_id(scene, position),
        "multiple_choices": [annotation_id(scene, other) for other in wrong],
        "type": "which",
    }


def _boxes(scene: Scene) -> list[dict[str, Any]]:
    return [
        {
            "box_id": annotation_id(scene, position),
            "image_id": image_id(scene),
            "name": item.shape,
            **dict(zip(("x", "y", "width", "height"), xywh(item), strict=True)),
        }
        for position, item in enumerate(scene.objects)
    ]
