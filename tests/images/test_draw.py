"""Boxes on pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageColor

from manyeyes.errors import UsageError
from manyeyes.images.drawing import COLORS, draw_boxes, save_drawing


def test_groups_have_colours_of_their_own() -> None:
    image = Image.new("RGB", (400, 400), "white")
    drawn = draw_boxes(image, [[(10, 10, 50, 50), (60, 60, 90, 90)], [(200, 200, 300, 300)]])
    first, second = (ImageColor.getrgb(color) for color in COLORS[:2])
    assert drawn.size == (400, 400)
    assert drawn.getpixel((10, 30)) == first
    assert drawn.getpixel((60, 70)) == first
    assert drawn.getpixel((200, 250)) == second
    assert drawn.getpixel((30, 30)) == (255, 255, 255)
    assert image.getpixel((10, 30)) == (255, 255, 255)


def test_small_pictures_are_enlarged_by_a_whole_factor() -> None:
    drawn = draw_boxes(Image.new("RGB", (48, 24), "white"), [[(6, 6, 12, 12)]])
    assert drawn.size == (384, 192)
    assert drawn.getpixel((48, 60)) == ImageColor.getrgb(COLORS[0])


def test_boxes_beyond_the_picture_are_cut_at_its_edge() -> None:
    drawn = draw_boxes(Image.new("RGB", (400, 200), "white"), [[(-50, -50, 450, 250)]])
    assert drawn.getpixel((0, 100)) == ImageColor.getrgb(COLORS[0])
    assert drawn.getpixel((399, 199)) == ImageColor.getrgb(COLORS[0])


def test_only_png_is_written(tmp_path: Path) -> None:
    image = Image.new("RGB", (10, 10))
    with pytest.raises(UsageError, match=r"\.png"):
        save_drawing(image, [], tmp_path / "a.jpg")
    assert save_drawing(image, [], tmp_path / "new" / "a.png").is_file()
