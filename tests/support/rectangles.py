"""Eight scenes of coloured rectangles, two questions about each, and their pictures."""

from __future__ import annotations

from PIL import Image, ImageDraw

from manyeyes.records import Detection, Detections

IMAGES, SIDE = 8, 48
COUNT, PLACE = "How many blue rectangles are there?", "Is the red rectangle left or right?"


def scene(number: int, shift: float = 0.0) -> tuple[Detections, dict[str, str]]:
    """One to four blue rectangles, each number with a red one left and right; what is true.

    ``shift`` moves all of them downwards, to scenes that were not trained on.
    """
    left, count = number % 2 == 0, number // 2 + 1
    start = 2.0 if left else 34.0
    blue = [
        Detection("blue rectangle", (5.0 * n, 30.0 + shift, 5.0 * n + 4.0, 40.0 + shift), 0.9)
        for n in range(count)
    ]
    red = Detection("red rectangle", (start, 5.0 + shift, start + 10.0, 15.0 + shift), 0.95)
    return (red, *blue), {COUNT: str(count), PLACE: "left" if left else "right"}


def picture(objects: Detections) -> Image.Image:
    """The scene as it looks."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    for found in objects:
        ImageDraw.Draw(image).rectangle(found.box, fill=found.label.split()[0])
    return image
