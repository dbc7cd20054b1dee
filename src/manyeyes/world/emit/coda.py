"""CODA's layout: ``annotations/coda_{split}.json``, COCO instances with a ``corner_case`` each.

For the splits in which objects are hard to find. An object is a corner case if another one covers
part of it, or if training never showed its shape in its colour.
"""

from __future__ import annotations

from manyeyes.world.emit.coco import instances
from manyeyes.world.emit.split import SplitWorld, annotation_id
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.scene import WorldObject
from manyeyes.world.splits import HELD_OUT

SPLITS = ("corner", "compositional")


def emit_coda(world: SplitWorld) -> Files:
    """Write the instances of a corner-case split; nothing for the others."""
    if world.name not in SPLITS:
        return {}
    corner = {
        annotation_id(scene, position): _is_corner_case(item)
        for scene in world.scenes
        for position, item in enumerate(scene.objects)
    }
    content = instances([world])
    for annotation in content["annotations"]:
        annotation["corner_case"] = corner[annotation["id"]]
    return {f"annotations/coda_{world.name}.json": json_bytes(content)}


def _is_corner_case(item: WorldObject) -> bool:
    return item.visible < item.area or (item.shape, item.color) in HELD_OUT
