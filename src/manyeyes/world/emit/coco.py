"""COCO instances and captions: ``annotations/{instances,captions}_{split}.json``.

Categories are the four shapes. Segmentations are uncompressed run lengths of the whole outline,
column by column as COCO counts; the other attributes stand under ``attributes``, which is ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyeyes.world.emit.scenes import xywh
from manyeyes.world.emit.split import SplitWorld, annotation_id, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.render import object_mask
from manyeyes.world.scene import SHAPES, Scene

CATEGORIES: list[dict[str, Any]] = [
    {"id": number, "name": shape, "supercategory": "shape"}
    for number, shape in enumerate(SHAPES, start=1)
]


def emit_instances(world: SplitWorld) -> Files:
    """Write boxes, masks and categories of all objects."""
    return {f"annotations/instances_{world.name}.json": json_bytes(instances([world]))}


def emit_captions(world: SplitWorld) -> Files:
    """Write five captions per image."""
    annotations = [
        {"id": image_id(scene) * 10 + number, "image_id": image_id(scene), "caption": text}
        for scene, texts in zip(world.scenes, world.captions, strict=True)
        for number, text in enumerate(texts)
    ]
    content = {
        "info": _info([world]),
        "licenses": [],
        "images": images(world),
        "annotations": annotations,
    }
    return {f"annotations/captions_{world.name}.json": json_bytes(content)}


def instances(worlds: list[SplitWorld]) -> dict[str, Any]:
    """Return the COCO instances record of one or several splits together."""
    return {
        "info": _info(worlds),
        "licenses": [],
        "images": [image for world in worlds for image in images(world)],
        "annotations": [
            annotation
            for world in worlds
            for scene in world.scenes
            for annotation in _annotations(scene)
        ],
        "categories": CATEGORIES,
    }


def images(world: SplitWorld) -> list[dict[str, Any]]:
    """Return COCO's image records."""
    return [
        {
            "id": image_id(scene),
            "file_name": file_name(scene),
            "width": scene.width,
            "height": scene.height,
        }
        for scene in world.scenes
    ]


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Return a mask ``[H, W]`` as COCO's uncompressed run lengths, zeros first, by columns."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def _annotations(scene: Scene) -> list[dict[str, Any]]:
    return [
        {
            "id": annotation_id(scene, position),
            "image_id": image_id(scene),
            "category_id": SHAPES.index(item.shape) + 1,
            "bbox": xywh(item),
            "area": item.area,
            "iscrowd": 0,
            "segmentation": run_lengths(object_mask(scene, position)),
            "attributes": {
                "color": item.color,
                "size": item.size,
                "texture": item.texture,
                "mark": item.mark,
            },
        }
        for position, item in enumerate(scene.objects)
    ]


def _info(worlds: list[SplitWorld]) -> dict[str, Any]:
    names = "+".join(world.name for world in worlds)
    return {"description": f"manyeyes world, {names}", "seed": worlds[0].seed}
