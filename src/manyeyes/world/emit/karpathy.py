"""Karpathy's split files: ``annotations/dataset_coco.json`` and ``dataset_flickr30k.json``.

One file holds all splits of a world under their own names; there is no ``restval``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.scene import Scene


def emit_karpathy(worlds: Sequence[SplitWorld]) -> Files:
    """Write every image with its captions, as for COCO and as for Flickr30k."""
    images = [
        (scene, texts)
        for world in worlds
        for scene, texts in zip(world.scenes, world.captions, strict=True)
    ]
    files = {}
    for name in ("coco", "flickr30k"):
        entries = [_image(name, scene, texts) for scene, texts in images]
        content = {"images": entries, "dataset": name}
        files[f"annotations/dataset_{name}.json"] = json_bytes(content)
    return files


def _image(dataset: str, scene: Scene, texts: list[str]) -> dict[str, Any]:
    number = image_id(scene)
    sentences = [
        {
            "raw": text,
            "tokens": text.lower().replace(",", "").replace(":", "").rstrip(".").split(),
            "imgid": number,
            "sentid": number * 10 + place,
        }
        for place, text in enumerate(texts)
    ]
    entry = {
        "imgid": number,
        "sentids": [sentence["sentid"] for sentence in sentences],
        "split": scene.split,
        "sentences": sentences,
    }
    if dataset != "coco":
        return {**entry, "filename": file_name(scene)}
    folder, _, name = file_name(scene).partition("/")
    return {**entry, "filepath": folder, "filename": name, "cocoid": number}
