"""The record of a former demo written by hand, with drawn images: what its report is tested on.

The reference arm ``clip`` is right on ``good_reference`` of the items, the challenger ``comm`` on
``good_challenger``; every image carries ``per_image`` questions of each of the four benchmarks.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageDraw

from manyeyes.conversation.boxes import format_boxes
from manyeyes.records import Box
from manyeyes.study.comparison.former import ITEMS_FILE, FormerArm, FormerStudy
from manyeyes.study.comparison.groups import item_scores
from manyeyes.study.record import Answer, CurvePoint, Measure, StudyItem
from manyeyes.study.trials.trial import STUDY_FILE

BENCHMARKS = {"vqa": "VQA accuracy", "rec": "REC", "pope": "POPE", "caption": "CIDEr-D"}
SIZE = (48, 48)
COLOURS = ("red", "green", "blue", "yellow")


def write_run(
    folder: Path,
    *,
    images: int = 12,
    good_reference: float = 0.5,
    good_challenger: float = 0.8,
    seed: int = 0,
) -> tuple[FormerStudy, list[StudyItem]]:
    """Write a whole run folder and return what it holds."""
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    good = {"clip": good_reference, "comm": good_challenger, "text_only": 0.25}
    items = []
    for index in range(images):
        box = _draw(folder / "images" / f"{index:06d}.png", rng)
        items += [_item(index, box, name, good, rng) for name in BENCHMARKS]
    study = _study(items, rng)
    save_former(folder, study, items)
    return study, items


def save_former(folder: Path, study: FormerStudy, items: Sequence[StudyItem]) -> None:
    """Write both files as former versions did."""
    lines = "".join(f"{json.dumps(asdict(item), ensure_ascii=False)}\n" for item in items)
    (folder / ITEMS_FILE).write_text(lines, encoding="utf-8")
    (folder / STUDY_FILE).write_text(json.dumps(asdict(study)), encoding="utf-8")


def _draw(path: Path, rng: random.Random) -> Box:
    picture = Image.new("RGB", SIZE, (186, 190, 194))
    x, y, side = rng.randrange(4, 24), rng.randrange(4, 24), rng.randrange(10, 20)
    ImageDraw.Draw(picture).rectangle((x, y, x + side, y + side), fill=rng.choice(COLOURS))
    picture.save(path)
    return float(x), float(y), float(x + side + 1), float(y + side + 1)


def _item(
    index: int, box: Box, benchmark: str, good: dict[str, float], rng: random.Random
) -> StudyItem:
    questions = {
        "vqa": (f"What color is object {index % 3}?", "red"),
        "rec": ("Where is the square? Give its box.", f"{box}"),
        "pope": ("Is there a circle in the image?", "no"),
        "caption": ("Describe the image.", "a red square on a grey ground"),
    }
    question, truth = questions[benchmark]
    answers = {}
    for arm, share in good.items():
        right = rng.random() < share
        dx, dy = (rng.uniform(-1, 1) * (1 if right else 12) for _ in range(2))
        x1, y1, x2, y2 = (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)
        boxes: tuple[Box, ...] = ((x1, y1, x2, y2),)
        said = truth if right else "blue & <b>green</b>"
        if benchmark == "rec":
            said = format_boxes(boxes, style="shikra", width=SIZE[0], height=SIZE[1])
        answers[arm] = Answer(said, float(right), boxes if benchmark == "rec" else ())
    kind = ("color", "count", "exist")[index % 3]
    return StudyItem(
        benchmark=benchmark,
        id=f"{benchmark}-{index}",
        image=f"images/{index:06d}.png",
        cluster=f"{index:06d}",
        question=question,
        truth=truth,
        size=SIZE,
        target=box if benchmark == "rec" else None,
        groups={"question_type": kind} if benchmark == "vqa" else {},
        answers=answers,
    )


def _study(items: list[StudyItem], rng: random.Random) -> FormerStudy:
    titles = {"clip": "CLIP only", "comm": "COMM", "text_only": "Text only"}
    arms = []
    for name, title in titles.items():
        measures = {}
        for benchmark in BENCHMARKS:
            scores = item_scores([i for i in items if i.benchmark == benchmark], name)
            mean = 100 * sum(scores) / len(scores)
            interval = (mean - 4.0, mean + 4.0)
            measures[benchmark] = Measure("accuracy", mean, len(scores), interval)
        curve = [
            CurvePoint("align", step, 3 * math.exp(-step / 150) + 0.4 + rng.uniform(0, 0.2))
            for step in range(10, 600, 10)
        ]
        weights = {"clip": (0.1, 0.1, 0.2, 0.25, 0.2, 0.15), "dinov2": (0.4, 0.6)}
        arms.append(
            FormerArm(
                name=name,
                title=title,
                description=f"The arm called {name}.",
                baseline=name == "text_only",
                measures=measures,
                curve=() if name == "text_only" else tuple(curve),
                level_weights=weights if name == "comm" else {},
                facts={"trainable parameters": "4.2 M"},
            )
        )
    constant = {name: Measure("accuracy", 40.0, len(items) // 4) for name in BENCHMARKS}
    arms.append(FormerArm("majority", "Majority answer", baseline=True, measures=constant))
    return FormerStudy(
        title="CLIP alone or CLIP with DINOv2?",
        contrast=("comm", "clip"),
        benchmarks=BENCHMARKS,
        arms=tuple(arms),
        notes=("One training seed.",),
        facts={"Environment": {"python": "3.11", "torch": "2.13.0"}},
        commands=("manyeyes demo --seed 0",),
    )
