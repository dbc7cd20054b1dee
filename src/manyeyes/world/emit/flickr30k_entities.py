"""Flickr30k Entities' folder: ``flickr30k_entities/{split}.txt``, ``Sentences``, ``Annotations``.

The list of a split holds image ids; ``Sentences/ID.txt`` five captions with their phrases marked,
``Annotations/ID.xml`` the boxes by chain, counted from pixel 1. A chain is a set of objects: "two
red circles" has two boxes. The format names images by id, so they are written again, as JPEG, under
``images``. Every split but training.
"""

from __future__ import annotations

from random import Random
from xml.sax.saxutils import escape

from manyeyes.world.emit.pictures import jpeg_bytes
from manyeyes.world.emit.split import CAPTIONS_PER_IMAGE, SplitWorld, image_id, talk
from manyeyes.world.emit.text import Files
from manyeyes.world.language.words import NUMBER_WORDS, plural, with_article
from manyeyes.world.scene import Scene, WorldObject

FOLDER = "flickr30k_entities"
_TYPE = "other"
_LEADS = ("", "There is ", "I can see ", "A picture of ", "An image with ")

Chains = dict[tuple[int, ...], int]
"""Positions of objects that a phrase names -> number of their chain, from 1."""


def emit_flickr30k_entities(world: SplitWorld) -> Files:
    """Write list, sentences, boxes and pictures of the split."""
    if world.name == "train":
        return {}
    ids = [str(image_id(scene)) for scene in world.scenes]
    files: Files = {f"{FOLDER}/{world.name}.txt": "".join(f"{name}\n" for name in ids).encode()}
    for name, scene in zip(ids, world.scenes, strict=True):
        chains: Chains = {}
        rng = talk(scene, "entities")
        sentences = [_sentence(scene, rng, chains) for _ in range(CAPTIONS_PER_IMAGE)]
        files[f"{FOLDER}/Sentences/{name}.txt"] = "".join(f"{s}\n" for s in sentences).encode()
        files[f"{FOLDER}/Annotations/{name}.xml"] = _annotation(scene, name, chains).encode()
        files[f"images/{world.name}/{name}.jpg"] = jpeg_bytes(scene)
    return files


def _sentence(scene: Scene, rng: Random, chains: Chains) -> str:
    """Write all objects, grouped by name, in random order; adds the sets it names to ``chains``."""
    with_size = rng.random() < 0.5
    groups: dict[str, list[int]] = {}
    for position in rng.sample(range(len(scene.objects)), len(scene.objects)):
        groups.setdefault(_name(scene.objects[position], with_size), []).append(position)
    phrases = []
    for name, positions in groups.items():
        chain = chains.setdefault(tuple(sorted(positions)), len(chains) + 1)
        count = len(positions)
        words = with_article(name) if count == 1 else f"{NUMBER_WORDS[count]} {plural(name)}"
        phrases.append(f"[/EN#{chain}/{_TYPE} {words}]")
    listed = " , ".join(phrases[:-1]) + (" and " if len(phrases) > 1 else "") + phrases[-1]
    return f"{rng.choice(_LEADS)}{listed} ."


def _name(item: WorldObject, with_size: bool) -> str:
    return f"{item.size} {item.color} {item.shape}" if with_size else f"{item.color} {item.shape}"


def _annotation(scene: Scene, name: str, chains: Chains) -> str:
    """Write every object with the chains that it belongs to."""
    lines = [
        "<annotation>",
        f"<filename>{escape(name)}.jpg</filename>",
        f"<size><width>{scene.width}</width><height>{scene.height}</height><depth>3</depth></size>",
    ]
    for position, item in enumerate(scene.objects):
        names = (number for positions, number in chains.items() if position in positions)
        named = "".join(f"<name>{number}</name>" for number in names)
        sides = zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True)
        box = "".join(f"<{side}>{int(value) + 1}</{side}>" for side, value in sides)
        lines.append(f"<object>{named}<bndbox>{box}</bndbox></object>")
    return "\n".join([*lines, "</annotation>", ""])
