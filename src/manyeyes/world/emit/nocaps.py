"""NoCaps' file: ``annotations/nocaps_{split}.json`` with pictures of three domains.

    in-domain     the split's own pictures: ordinary pairs of shape and colour
    near-domain   the same scenes with every second object in its shape's held-out colour, drawn
                  anew under ``images/nocaps``
    out-domain    the pictures of the compositional split: held-out pairs only

The file is that of the test split. Ten captions per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.split import SplitWorld, evaluated, file_name, image_id, talk
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.captions import captions
from manyeyes.world.scene import Scene
from manyeyes.world.splits import HELD_OUT

CAPTIONS = 10
NEAR = 9_000_000
"""Added to the ids of recoloured pictures, which belong to no split."""


def emit_nocaps(worlds: Sequence[SplitWorld]) -> Files:
    """Write the file and the recoloured pictures, if the world has a compositional split."""
    ordinary = evaluated(worlds)
    novel = next((world for world in worlds if world.name == "compositional"), None)
    if novel is None or ordinary is novel:
        return {}
    files: Files = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for domain, number, name, scene in _pictures(ordinary, novel):
        if domain == "near-domain":
            files[f"images/{name}"] = png_bytes(scene)
        texts = captions(scene, talk(scene, f"nocaps-{number}"), CAPTIONS)
        images.append(_image(domain, number, name, scene))
        annotations += [
            {"id": number * CAPTIONS + place, "image_id": number, "caption": text}
            for place, text in enumerate(texts)
        ]
    content = {
        "info": {"description": f"manyeyes world, {ordinary.name}", "seed": ordinary.seed},
        "licenses": [],
        "images": images,
        "annotations": annotations,
    }
    return {f"annotations/nocaps_{ordinary.name}.json": json_bytes(content), **files}


def _pictures(ordinary: SplitWorld, novel: SplitWorld) -> Iterator[tuple[str, int, str, Scene]]:
    """Yield domain, image id, file name and scene."""
    for scene in ordinary.scenes:
        yield "in-domain", image_id(scene), file_name(scene), scene
    for scene in ordinary.scenes:
        name = f"nocaps/{scene.index:06d}.png"
        yield "near-domain", NEAR + image_id(scene), name, recoloured(scene)
    for scene in novel.scenes:
        yield "out-domain", image_id(scene), file_name(scene), scene


def recoloured(scene: Scene) -> Scene:
    """Return the scene with every second object in its shape's held-out colour."""
    held_out = dict(sorted(HELD_OUT))
    objects = [
        item if place % 2 else replace(item, color=held_out[item.shape])
        for place, item in enumerate(scene.objects)
    ]
    return replace(scene, objects=tuple(objects))


def _image(domain: str, number: int, name: str, scene: Scene) -> dict[str, Any]:
    return {
        "id": number,
        "open_images_id": f"{number:016x}",
        "file_name": name,
        "width": scene.width,
        "height": scene.height,
        "domain": domain,
    }
