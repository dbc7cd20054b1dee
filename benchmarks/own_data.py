"""From odd pictures and a LLaVA JSON to a report: wall and processor seconds of each step.

60 pictures in eight modes, six formats and six sizes are drawn (seeded), and rows with short
answers, yes/no, boxes as numbers, two pictures and no picture. Then three arms are compared on
them, three seeds each, as this command does it:

    manyeyes compare clip dinov2 comm --train my.json --images pictures --text-boxes lion

    python benchmarks/own_data.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

PICTURES, QUICK_PICTURES = 60, 12
ARMS, SEEDS = ("clip", "dinov2", "comm"), 3
SIZES = ((40, 300), (640, 480), (1200, 90), (333, 333), (17, 23), (800, 801))
MODES = ("RGB", "RGBA", "L", "P", "CMYK", "I;16", "LA", "1")
ENDINGS = {"CMYK": ("jpg",), "RGB": ("png", "jpg", "webp", "bmp", "tiff", "gif"), "L": ("png",)}
COLORS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (40, 60, 220)}
SHAPES = ("circle", "square", "triangle")


@dataclass(frozen=True)
class Picture:
    """A drawn picture: its file, shape, and box in shares of width and height."""

    name: str
    shape: str
    box: tuple[float, ...]


@dataclass
class Steps:
    """Seconds by step: (wall, processor). Call it as progress: a label ends the step before it."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    step: str = "start"
    last: tuple[float, float] = field(default_factory=lambda: (0.0, time.process_time()))
    began: float = field(default_factory=time.perf_counter)

    def __call__(self, label: str, done: int = 0, total: int = 0) -> None:
        wall, cpu = time.perf_counter() - self.began, time.process_time()
        spent = self.seconds[self.step]
        spent[0] += wall - self.last[0]
        spent[1] += cpu - self.last[1]
        self.last, self.step = (wall, cpu), label.rpartition(": ")[2]


def draw(folder: Path, count: int) -> list[Picture]:
    """Draw one coloured shape on each picture; return what is on them."""
    chance = random.Random(0)
    folder.mkdir(parents=True)
    return [_drawn(folder, number, chance) for number in range(count)]


def _drawn(folder: Path, number: int, chance: random.Random) -> Picture:
    width, height = chance.choice(SIZES)
    shape, color = chance.choice(SHAPES), COLORS[chance.choice(list(COLORS))]
    side = min(width, height) * chance.uniform(0.4, 0.8)
    x, y = chance.uniform(0, width - side), chance.uniform(0, height - side)
    image = Image.new("RGB", (width, height), (240, 240, 240))
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((x, y, x + side, y + side), fill=color)
    elif shape == "square":
        pen.rectangle((x, y, x + side, y + side), fill=color)
    else:
        pen.polygon([(x, y + side), (x + side, y + side), (x + side / 2, y)], fill=color)
    mode = MODES[number % len(MODES)]
    name = f"picture {number:02d}.{chance.choice(ENDINGS.get(mode, ('png',)))}"
    _in_mode(image, mode).save(folder / name)
    box = (x / width, y / height, (x + side) / width, (y + side) / height)
    return Picture(name, shape, box)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode != "I;16":
        return image.convert(mode)
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def rows(pictures: list[Picture]) -> list[dict[str, Any]]:
    """Return a LLaVA file's rows about the pictures, and ten without one."""
    found = []
    for number, one in enumerate(pictures):
        found.append(_row([one.name], "Which shape is it?", one.shape))
        if number % 2 == 0:
            numbers = ", ".join(f"{share:.3f}" for share in one.box)
            found.append(_row([one.name], f"Where is the {one.shape}?", f"[{numbers}]"))
        if number % 3 == 0:
            said = "Yes" if one.shape == "circle" else "No"
            found.append(_row([one.name], "Is there a circle?", said))
        if number % 4 == 1:
            before = pictures[number - 1]
            said = "Yes" if one.shape == before.shape else "No"
            found.append(_row([before.name, one.name], "Do both show the same shape?", said))
    return found + [_row([], f"What is {n} plus one?", str(n + 1)) for n in range(10)]


def _row(images: list[str], asked: str, said: str) -> dict[str, Any]:
    text = "<image>\n" * len(images) + asked
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": said}]
    shown = {} if not images else {"image": images[0] if len(images) == 1 else images}
    return {**shown, "conversations": turns}


def run(folder: Path, quick: bool) -> tuple[Steps, str]:
    """Make the data, compare, and return what each step took, and what was in the data."""
    steps = Steps()
    from manyeyes.data.own.folder import OwnFiles, prepare
    from manyeyes.study.comparison.compare import Settings, compare
    from manyeyes.study.trials.budget import Budget
    from manyeyes.study.trials.contestants import Contestant
    from manyeyes.training.own.rows import own_training

    steps("drawing")
    said = rows(draw(folder / "pictures", QUICK_PICTURES if quick else PICTURES))
    (folder / "my.json").write_text(json.dumps(said))
    steps("reading rows and pictures")
    own = prepare(
        OwnFiles(train=(folder / "my.json",), images=folder / "pictures", text_boxes="lion"),
        folder / "study" / "own-data",
    )
    steps("planning")
    arms = [Contestant(name, f"{name}/world", own=own_training(own)) for name in ARMS]
    settings = Settings(
        seeds=1 if quick else SEEDS,
        budget=Budget("steps", 2) if quick else None,
        data_dir=own.folder,
        benchmarks=tuple(own.benchmarks),
    )
    compare(arms, folder / "study", settings, progress=steps)
    steps("end")
    assert (folder / "study" / "report.html").is_file()
    asked = ", ".join(f"{count} by {name}" for name, count in own.metrics.items())
    return steps, f"{len(said)} rows, {own.rows} to train on; asked: {asked}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="12 pictures, one seed, two steps")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        steps, what = run(Path(folder), args.quick)
    wall, cpu = (sum(spent[place] for spent in steps.seconds.values()) for place in (0, 1))
    if args.json:
        print(json.dumps({"what": what, "wall": wall, "cpu": cpu, "steps": steps.seconds}))
        return
    print(what)
    for name, spent in steps.seconds.items():
        print(f"{name:28} {spent[0]:7.1f} s  {spent[1]:7.1f} s of processor")
    print(f"{'in all':28} {wall:7.1f} s  {cpu:7.1f} s of processor")


if __name__ == "__main__":
    main()
