"""Draw scenes as RGB pictures, uint8 ``[H, W, 3]``. Hard pixel edges: masks and boxes are exact.

An object is its colour, a texture in a darker shade (3-pixel period), and a 5-pixel mark near its
centre. The background is a soft grey gradient with grain. All of it follows from the scene's
(seed, split, index), so a picture can be drawn again at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from manyeyes.errors import UsageError
from manyeyes.world.corrupt import Picture, corrupt
from manyeyes.world.outlines import MARK_HALF, mark_drop, outline
from manyeyes.world.scene import Color, Mark, Scene, Shape, Texture, WorldObject
from manyeyes.world.splits import generator

RGB: dict[Color, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 160, 60),
    "blue": (35, 75, 215),
    "yellow": (240, 220, 40),
    "purple": (125, 45, 165),
    "orange": (245, 130, 15),
    "cyan": (45, 205, 215),
    "pink": (250, 150, 200),
}
DARK_MARKED: frozenset[Color] = frozenset({"yellow", "orange", "cyan", "pink"})
"""Light colours carry a dark mark, the others a white one."""

STRIPE_SHADE = 0.5
DOT_SHADE = 0.3
_PERIOD = 3
_MARK_ROWS: dict[Mark, tuple[str, ...]] = {
    "none": (),
    "dot": (".###.", "#####", "#####", "#####", ".###."),
    "bar": (".....", "#####", "#####", ".....", "....."),
    "ring": ("#####", "#...#", "#...#", "#...#", "#####"),
}


def render(scene: Scene) -> NDArray[np.uint8]:
    """Return the picture of one scene, uint8 ``[scene.height, scene.width, 3]``."""
    rng = generator(scene.seed, scene.split, scene.index, stream=1)
    picture = _background(scene.width, scene.height, rng)
    light = rng.uniform(0.88, 1.06, size=len(scene.objects))
    for item, brightness in zip(scene.objects, light, strict=True):
        _paint(picture, item, float(brightness))
    picture += 3.0 * rng.standard_normal(picture.shape, dtype=np.float32)
    picture = corrupt(picture, scene.corruption, rng)
    return np.clip(picture, 0, 255).astype(np.uint8)


def render_batch(scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """Return the pictures of equally large scenes, uint8 ``[B, H, W, 3]``.

    Raises ``UsageError`` when the scenes differ in size or there are none.
    """
    sizes = {(scene.width, scene.height) for scene in scenes}
    if len(sizes) != 1:
        raise UsageError(f"a batch needs scenes of one size, got sizes {sorted(sizes)}")
    return np.stack([render(scene) for scene in scenes])


def object_mask(scene: Scene, position: int) -> NDArray[np.bool_]:
    """Return bool ``[H, W]``: the full outline of object ``position``, occluded pixels included."""
    item = scene.objects[position]
    mask = np.zeros((scene.height, scene.width), dtype=bool)
    r = item.radius
    mask[item.y - r : item.y + r + 1, item.x - r : item.x + r + 1] = outline(item.shape, r)
    return mask


def _background(width: int, height: int, rng: np.random.Generator) -> Picture:
    """A tilted grey plane: one base tone, a slope per axis, a faint tint."""
    base, slope_x, slope_y = rng.uniform((80, -25, -25), (185, 25, 25))
    tint = rng.uniform(-8, 8, size=3).astype(np.float32)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    plane: Picture = np.float32(base) + np.float32(slope_x) * x + np.float32(slope_y) * y + tint
    return plane


def _paint(picture: Picture, item: WorldObject, brightness: float) -> None:
    r = item.radius
    window = picture[item.y - r : item.y + r + 1, item.x - r : item.x + r + 1]
    skin = _skin(item.shape, r, item.color, item.texture, item.mark)
    mask = outline(item.shape, r)[:, :, None]
    np.copyto(window, skin * np.float32(brightness), where=mask)


@cache
def _skin(shape: Shape, radius: int, color: Color, texture: Texture, mark: Mark) -> Picture:
    """The object's pixels ``[2R + 1, 2R + 1, 3]`` before brightness, outline not yet cut out."""
    side = 2 * radius + 1
    skin = np.broadcast_to(np.array(RGB[color], np.float32), (side, side, 3)).copy()
    if texture == "striped":
        skin[::_PERIOD] *= STRIPE_SHADE
    elif texture == "dotted":
        skin[1::_PERIOD, 1::_PERIOD] *= DOT_SHADE
    _stamp(skin, shape, radius, mark, 25.0 if color in DARK_MARKED else 250.0)
    skin.setflags(write=False)
    return skin


def _stamp(skin: Picture, shape: Shape, radius: int, mark: Mark, tone: float) -> None:
    """Put the mark at the centre; in a triangle lower, where there is room for it."""
    top, left = radius + mark_drop(shape, radius) - MARK_HALF, radius - MARK_HALF
    for row, line in enumerate(_MARK_ROWS[mark]):
        for column, letter in enumerate(line):
            if letter == "#":
                skin[top + row, left + column] = tone
