"""Captions say what people say: no texture, no mark, no place; and they vary."""

from __future__ import annotations

import re
from random import Random

from manyeyes.world.language.captions import caption, captions
from manyeyes.world.language.words import NUMBER_WORDS
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import Scene
from manyeyes.world.splits import SPLITS

SCENES = [sample_scene(split, index, 0) for split in SPLITS for index in range(40)]
HIDDEN = {"plain", "striped", "dotted", "dot", "bar", "ring", "mark", "texture", "stripes", "dots"}
PLACES = {"corner", "center", "centre", "middle", "top", "bottom", "leftmost", "rightmost", "edge"}


def test_captions_never_mention_texture_mark_or_place() -> None:
    for scene in SCENES:
        for text in captions(scene, Random(scene.index)):
            words = set(re.findall(r"[a-z]+", text.lower()))
            assert not words & (HIDDEN | PLACES), text
            assert not re.search(r"\d", text), text


def test_five_captions_of_a_scene_differ() -> None:
    for scene in SCENES:
        texts = captions(scene, Random(scene.index))
        assert len(texts) == len(set(texts)) == 5


def test_equal_generators_give_equal_captions() -> None:
    scene = sample_scene("train", 3, 0, count=4)
    assert caption(scene, Random("x")) == caption(scene, Random("x"))


def test_captions_without_other_shapes_name_only_what_is_there() -> None:
    """Every (colour, shape) of a caption exists, as often as the caption says."""
    for scene in SCENES:
        for text in captions(scene, Random(scene.index)):
            for number, color, shape in _named(text.lower()):
                there = sum(o.color == color and o.shape == shape for o in scene.objects)
                assert there >= number, (text, scene.objects)


def test_listed_objects_are_all_named() -> None:
    scene = sample_scene("train", 1, 0, count=3)
    named = [_listed(scene, Random(draw)) for draw in range(60)]
    assert named.count(3) > 40


def test_an_empty_scene_has_a_caption() -> None:
    empty = Scene(0, "train", 48, 48, ())
    assert captions(empty, Random(0)) == ["an empty picture"] * 5


def _named(text: str) -> list[tuple[int, str, str]]:
    """(number, colour, shape) of every group that a caption names."""
    numbers = {word: number for number, word in enumerate(NUMBER_WORDS)} | {"a": 1, "an": 1}
    pattern = (
        rf"\b({'|'.join(numbers)}) (?:small |large |big )?"
        r"(red|green|blue|yellow|purple|orange|cyan|pink) (circle|square|triangle|cross)"
    )
    return [(numbers[n], color, shape) for n, color, shape in re.findall(pattern, text)]


def _listed(scene: Scene, rng: Random) -> int:
    return sum(number for number, _, _ in _named(caption(scene, rng).lower()))
