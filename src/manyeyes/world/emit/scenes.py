"""Ground truth in CLEVR's scene layout: ``scenes/{split}.json``.

Field names are CLEVR's where it has them (facebookresearch/clevr-dataset-gen); ``texture``,
``mark``, ``bbox`` (x, y, width, height), ``area``, ``visible`` and ``corruption`` are ours.
"""

from __future__ import annotations

from typing import Any

from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.words import RELATIONS, margin, offset
from manyeyes.world.scene import Scene, WorldObject

DIRECTIONS = {
    "left": [-1, 0, 0],
    "right": [1, 0, 0],
    "above": [0, -1, 0],
    "below": [0, 1, 0],
}


def emit_scenes(world: SplitWorld) -> Files:
    """Write every scene of the split with objects, relations and what was done to the picture."""
    info = {"split": world.name, "seed": world.seed, "dataset": "manyeyes world"}
    scenes = [_scene(scene) for scene in world.scenes]
    return {f"scenes/{world.name}.json": json_bytes({"info": info, "scenes": scenes})}


def xywh(item: WorldObject) -> list[int]:
    """Return an object's box as COCO writes it: x, y, width, height in pixels."""
    x1, y1, x2, y2 = item.box
    return [int(x1), int(y1), int(x2 - x1), int(y2 - y1)]


def relationships(scene: Scene) -> dict[str, list[list[int]]]:
    """Return, per side and object, the objects that lie on that side of it by the margin."""
    return {
        side: [
            [
                other
                for other, item in enumerate(scene.objects)
                if offset(side, item, anchor) >= margin(scene)
            ]
            for anchor in scene.objects
        ]
        for side in RELATIONS
    }


def _scene(scene: Scene) -> dict[str, Any]:
    return {
        "split": scene.split,
        "image_index": scene.index,
        "image_id": image_id(scene),
        "image_filename": file_name(scene),
        "width": scene.width,
        "height": scene.height,
        "corruption": scene.corruption,
        "directions": DIRECTIONS,
        "objects": [_object(item) for item in scene.objects],
        "relationships": relationships(scene),
    }


def _object(item: WorldObject) -> dict[str, Any]:
    return {
        "shape": item.shape,
        "color": item.color,
        "size": item.size,
        "texture": item.texture,
        "mark": item.mark,
        "pixel_coords": [item.x, item.y, 0],
        "radius": item.radius,
        "bbox": xywh(item),
        "area": item.area,
        "visible": item.visible,
    }
