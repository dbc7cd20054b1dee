"""Records of a study written by hand: three arms, drawn pictures, answers right by chance."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from manyeyes.records import Box
from manyeyes.study.costs.arm import Price
from manyeyes.study.record import CurvePoint, Measure, StudyItem
from manyeyes.study.trials.trial import (
    Measured,
    Said,
    StudyPlan,
    Trial,
    save_plan,
    save_trial,
    trial_file,
)

TITLES = {"vqa": "Questions (VQA accuracy)", "rec": "Boxes (REC)"}
GOOD = {"clip": 0.5, "dino": 0.5, "comm": 0.8}
KINDS = ("color", "count", "exist")


def write_study(
    folder: Path,
    *,
    images: int = 24,
    seeds: int = 3,
    good: Mapping[str, float] = GOOD,
    reference: str | None = None,
    seed: int = 0,
) -> StudyPlan:
    """Write records, and pictures, of arms that are right with the probabilities ``good``."""
    rng = random.Random(seed)
    items = [item for index in range(images) for item in _items(folder, index, rng)]
    plan = StudyPlan(
        arms={name: f"{name}/world" for name in good},
        seeds=seeds,
        budget="steps=100",
        benchmarks=TITLES,
        data="data",
        split="test",
        reference=reference,
    )
    save_plan(folder, plan, items)
    for place, (name, share) in enumerate(good.items()):
        for number in range(seeds):
            trial = _trial(name, number, share, items, 10 ** (place + 6), rng)
            save_trial(trial_file(folder, name, number), trial)
    return plan


def _items(folder: Path, index: int, rng: random.Random) -> list[StudyItem]:
    image = f"images/{index:06d}.png"
    path = folder / "data" / image
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (48, 48), (186, 190, 194))
    x, y, side = rng.randrange(4, 24), rng.randrange(4, 24), rng.randrange(10, 20)
    ImageDraw.Draw(picture).rectangle((x, y, x + side, y + side), fill=rng.choice(("red", "blue")))
    picture.save(path)
    box: Box = (float(x), float(y), float(x + side + 1), float(y + side + 1))
    shared = {"image": image, "cluster": str(index), "size": (48, 48)}
    return [
        StudyItem(
            "vqa",
            f"q{index}",
            question="What color is it?",
            truth="red",
            groups={"question_type": KINDS[index % 3]},
            **shared,  # type: ignore[arg-type]
        ),
        StudyItem(
            "rec",
            f"b{index}",
            question="Where is the square?",
            truth="a box",
            target=box,
            **shared,  # type: ignore[arg-type]
        ),
    ]


def _trial(
    name: str,
    seed: int,
    share: float,
    items: list[StudyItem],
    size: int,
    rng: random.Random,
) -> Trial:
    answers: dict[str, dict[str, Said]] = {benchmark: {} for benchmark in TITLES}
    for item in items:
        right = rng.random() < share
        text = ("red" if right else "<b>blue</b>") if item.target is None else "[0.2,0.2,0.6,0.6]"
        answers[item.benchmark][item.id] = Said(text, float(right))
    measures = {}
    for benchmark, said in answers.items():
        value = 100 * sum(one.score for one in said.values()) / len(said)
        measures[benchmark] = Measure("accuracy", value, len(said))
    return Trial(
        arm=name,
        seed=seed,
        recipe=f"{name}/world",
        description=f"The arm called {name}.",
        settings=(),
        inputs={"recipe": f"{name}{seed}", "data": "d", "parts": "p", "code": "c"},
        exam=dict.fromkeys(TITLES, "questions"),
        steps=100,
        samples=3200,
        box_style="shikra",
        measures=measures,
        majority={benchmark: Measure("accuracy", 30.0, len(items)) for benchmark in TITLES},
        answers=answers,
        curve=tuple(CurvePoint("align", step, 3.0 / step + seed) for step in range(10, 101, 10)),
        level_weights={"clip": (0.1, 0.3, 0.6)} if name == "comm" else {},
        price=Price(16, size, size // 2, {"align": 1e9}, 1e3 * size),
        weights=f"{name}{seed}" * 8,
        measured=Measured(12.5, 1.25, 0.75, {"torch": "2", "device": "cpu"}),
    )


def change_record(path: Path, **changes: object) -> None:
    """Change fields of one stored trial."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))
