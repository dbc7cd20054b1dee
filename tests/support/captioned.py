"""Drawn pictures of two coloured squares with captions that name the colours, in LLaVA's format."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "black", "purple")


def save_captioned(folder: Path, pictures: int = 26, *, seed: int = 0) -> Path:
    """Write ``pictures`` pictures and ``captions.json`` into ``folder``; return the file."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(pictures):
        left, right = rng.choice(COLOURS), rng.choice(COLOURS)
        picture = Image.new("RGB", (32, 32), (200, 200, 200))
        drawing = ImageDraw.Draw(picture)
        drawing.rectangle((2, 8, 13, 20), fill=left)
        drawing.rectangle((18, 8, 29, 20), fill=right)
        picture.save(folder / f"{number}.png")
        rows.append(row(f"{number}.png", "Describe it.", f"{left} left of {right}, no. {number}"))
    path = folder / "captions.json"
    path.write_text(json.dumps(rows))
    return path


def row(image: str | list[str], question: str, answer: str) -> dict[str, object]:
    """Return one conversation about one or several pictures."""
    lead = "<image>\n" * (len(image) if isinstance(image, list) else 1)
    said = [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": said}
