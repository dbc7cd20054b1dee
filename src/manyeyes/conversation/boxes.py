"""Boxes and points as text: pixels of the original image in, the words of a prompt out; boxes back.

Pixels are (x1, y1, x2, y2) corners of the original (EXIF-rotated) image; text is ``[x1,y1,x2,y2]``,
several boxes of one phrase joined by ``;`` inside one bracket, points ``[x,y]`` likewise. Styles:

    shikra    3 decimals, divided by the side of the padded square (image centred in it)
    lion      3 decimals, divided by the width and the height of the original image
    int1000   integers 0..999, divided like lion

Numbers are plain digits of the language model's own vocabulary; no new tokens are needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.records import BOXES_PLACEHOLDER, Box, Point


@dataclass(frozen=True)
class BoxStyle:
    """How numbers are written: in the padded square or the plain frame, as decimals or integers."""

    padded_square: bool
    integers: bool


BOX_STYLES: Mapping[str, BoxStyle] = {
    "int1000": BoxStyle(padded_square=False, integers=True),
    "lion": BoxStyle(padded_square=False, integers=False),
    "shikra": BoxStyle(padded_square=True, integers=False),
}
"""Known styles by name. shikra: Shikra and COMM §1.9; lion: LION; int1000: later models."""

_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_DECIMAL = re.compile(r"-?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_LAST_BIN = 999


@dataclass(frozen=True)
class _Frame:
    """The rectangle that coordinates are divided by: its offset and its sides, in pixels."""

    dx: int
    dy: int
    width: int
    height: int
    integers: bool


def format_boxes(group: Sequence[Box], *, style: str, width: int, height: int) -> str:
    """Write the boxes of one phrase as text, for example ``[0.156,0.203,0.469,0.438]``.

    Args:
        group: boxes in pixels of the original image, at least one; parts outside are clamped.
        style: a key of ``BOX_STYLES``.
        width, height: size of the original image in pixels.

    Raises:
        DataError: no box, a number that is not finite, or corners in the wrong order.
        UsageError: an unknown style or an impossible image size.
    """
    for box in group:
        if len(box) == 4 and not (box[0] <= box[2] and box[1] <= box[3]):
            raise DataError(f"box {tuple(box)} is not (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2")
    return _format(group, 4, _frame(style, width, height))


def format_points(group: Sequence[Point], *, style: str, width: int, height: int) -> str:
    """Write the points of one phrase as text, for example ``[0.500,0.250]``; see `format_boxes`."""
    return _format(group, 2, _frame(style, width, height))


def parse_boxes(text: str, *, style: str, width: int, height: int) -> list[list[Box]]:
    """Find all box groups in a text, in reading order, in pixels of the original image.

    A bracket counts only if every member is exactly four numbers of the style with x1 <= x2 and
    y1 <= y2; anything else is not returned. Numbers outside the frame are clamped to the frame,
    which for ``shikra`` is the padded square: such a box may reach into the padding, beyond the
    original image. The inverse of `format_boxes` within half a step of the written precision.

    Raises:
        UsageError: an unknown style or an impossible image size.
    """
    frame = _frame(style, width, height)
    groups = []
    for members in _brackets(text, frame.integers):
        if all(x1 <= x2 and y1 <= y2 for x1, y1, x2, y2 in members):
            pixels = [_to_pixels(member, frame) for member in members]
            groups.append([(x1, y1, x2, y2) for x1, y1, x2, y2 in pixels])
    return groups


def lift_boxes(
    text: str, *, style: str, width: int, height: int
) -> tuple[str, list[tuple[Box, ...]]]:
    """Return a text with ``<boxes>`` where boxes are written in it, and these boxes in pixels.

    Brackets that are no boxes of the style stay as they are, those too whose numbers lead out of
    the frame: they may be pixels. Raises: as `parse_boxes`.
    """
    groups: list[tuple[Box, ...]] = []
    most = _LAST_BIN + 1 if _frame(style, width, height).integers else 1

    def lifted(bracket: re.Match[str]) -> str:
        numbers = [float(number) for number in _DECIMAL.findall(bracket.group())]
        if not all(0 <= number <= most for number in numbers):
            return bracket.group()
        found = parse_boxes(bracket.group(), style=style, width=width, height=height)
        groups.extend(tuple(group) for group in found)
        return BOXES_PLACEHOLDER if found else bracket.group()

    return _BRACKET.sub(lifted, text), groups


def only_boxes(text: str) -> bool:
    """Whether a text is nothing but boxes in numbers, in whichever style."""
    brackets = list(_BRACKET.finditer(text))
    return (
        len(brackets) > 0
        and not _BRACKET.sub("", text).strip(" \n,;.")
        and len(_brackets(text, integers=False)) == len(brackets)
    )


def _frame(style: str, width: int, height: int) -> _Frame:
    if style not in BOX_STYLES:
        known = ", ".join(sorted(BOX_STYLES))
        raise UsageError(f"unknown box style {style!r}{nearest(style, BOX_STYLES)}; known: {known}")
    if width < 1 or height < 1:
        raise UsageError(f"image size must be at least 1x1 pixels, got {width}x{height}")
    chosen = BOX_STYLES[style]
    if not chosen.padded_square:
        return _Frame(0, 0, width, height, chosen.integers)
    side = max(width, height)
    return _Frame((side - width) // 2, (side - height) // 2, side, side, chosen.integers)


def _format(group: Sequence[Sequence[float]], numbers: int, frame: _Frame) -> str:
    if not group:
        raise DataError("a group of boxes or points must not be empty")
    members = []
    for member in group:
        if len(member) != numbers or not all(math.isfinite(value) for value in member):
            raise DataError(f"expected {numbers} finite numbers, got {tuple(member)}")
        shares = [_share(value, axis % 2, frame) for axis, value in enumerate(member)]
        if frame.integers:
            members.append(",".join(str(round(share * _LAST_BIN)) for share in shares))
        else:
            members.append(",".join(f"{share:.3f}" for share in shares))
    return f"[{';'.join(members)}]"


def _share(value: float, axis: int, frame: _Frame) -> float:
    """Pixel coordinate -> share 0..1 of the frame's side along ``axis`` (0 = x, 1 = y)."""
    offset, side = (frame.dx, frame.width) if axis == 0 else (frame.dy, frame.height)
    return min(1.0, max(0.0, (value + offset) / side))


def _to_pixels(member: Sequence[float], frame: _Frame) -> list[float]:
    """Written numbers -> pixels of the original image, clamped to the frame."""
    scale = _LAST_BIN if frame.integers else 1
    pixels = []
    for index, number in enumerate(member):
        offset, side = (frame.dx, frame.width) if index % 2 == 0 else (frame.dy, frame.height)
        pixels.append(min(1.0, max(0.0, number / scale)) * side - offset)
    return pixels


def _brackets(text: str, integers: bool) -> list[list[list[float]]]:
    """All ``[...]`` whose ``;``-separated members are each exactly four written numbers."""
    pattern = _INTEGER if integers else _DECIMAL
    groups = []
    for bracket in _BRACKET.finditer(text):
        members = []
        for part in bracket.group(1).split(";"):
            words = [word.strip() for word in part.split(",")]
            if len(words) != 4 or not all(pattern.fullmatch(word) for word in words):
                break
            members.append([float(word) for word in words])
        else:
            groups.append(members)
    return groups
