"""A scene of the built-in world: what is true of one image, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from manyeyes.records import Box

Shape = Literal["circle", "square", "triangle", "cross"]
Color = Literal["red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink"]
Size = Literal["small", "large"]
Texture = Literal["plain", "striped", "dotted"]
Mark = Literal["none", "dot", "bar", "ring"]
Corruption = Literal["none", "clutter", "darkness", "fog", "noise", "odd_size"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLORS: tuple[Color, ...] = get_args(Color)
SIZES: tuple[Size, ...] = get_args(Size)
TEXTURES: tuple[Texture, ...] = get_args(Texture)
MARKS: tuple[Mark, ...] = get_args(Mark)
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)


@dataclass(frozen=True)
class WorldObject:
    """One object. ``x``, ``y`` is the centre and ``radius`` the half extent, in pixels.

    ``box`` is the tight box of the whole outline (also where it is occluded), ``area`` the number
    of pixels of the full outline, ``visible`` the number not covered by later objects.
    """

    shape: Shape
    color: Color
    size: Size
    texture: Texture
    mark: Mark
    x: int
    y: int
    radius: int
    box: Box
    area: int
    visible: int


@dataclass(frozen=True)
class Scene:
    """One image's ground truth. Later objects are in front of earlier ones."""

    index: int
    split: str
    width: int
    height: int
    objects: tuple[WorldObject, ...]
    corruption: Corruption = "none"
    """What the corner-case split did to the picture: clutter, darkness, fog, noise, odd_size."""
    seed: int = 0
    """The world's seed; with ``split`` and ``index`` it also fixes background and grain."""
