"""An arm that is not trained, only asked: a model behind an OpenAI API.

OUT/runs/ARM/                   its answers, the tokens they took, what the server refused
OUT/records/ARM/seed-S.json     a record for every seed of the study: the same answers in each

It gets the questions of the trained arms. What was answered is not asked again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyeyes.evaluation.asking.served import (
    ServedModel,
    Usage,
    parse_address,
    remembered,
)
from manyeyes.files import write_json
from manyeyes.study.trials.arms import (
    Exam,
    Progress,
    labelled,
    measures,
    stored_answers,
    take_exam,
)
from manyeyes.study.trials.trial import (
    Asked,
    Trial,
    load_trial,
    save_trial,
    with_earlier_answers,
)

ASKED = "asked"
"""Among a trial's inputs: the hash of the address."""
USAGE_FILE = "usage.json"


@dataclass(frozen=True)
class Asking:
    """How models behind an API are asked; see ``ServedModel``.

    ``prices``: of a million tokens read and written, for the cost.
    """

    box_style: str = "shikra"
    concurrency: int = 8
    prices: tuple[float, float] | None = None

    def model(self, word: str) -> ServedModel:
        """Return the model of ``openai:URL#MODEL``; raises ``UsageError``, see there."""
        address = parse_address(word)
        return ServedModel(address, box_style=self.box_style, concurrency=self.concurrency)


@dataclass(frozen=True)
class AskedArm:
    """What the trials of such an arm are made from; travels to another process.

    ``model``: where it is asked. ``run``: folder of its answers. ``records``: seed -> file.
    """

    arm: str
    model: str
    inputs: Mapping[str, str]
    exam_hashes: Mapping[str, str]
    exam: Exam
    asking: Asking
    run: Path
    records: Mapping[int, Path]

    @property
    def title(self) -> str:
        """The work in words."""
        return f"{self.arm}, asked"

    @property
    def stages(self) -> Mapping[str, str]:
        """It trains nothing."""
        return {}


def ask_arm(task: AskedArm, progress: Progress | None = None) -> None:
    """Ask all questions that were not answered yet, and write a record for every seed.

    Raises:
        RequestError: the server does not answer; what it did answer is kept.
    """
    model = task.asking.model(task.model)
    try:
        told = labelled(progress, task.title)
        entries = take_exam(model, task.run, task.exam, progress=told)
    finally:
        usage = add_up(task.run, model.usage)
        model.close()
    questions = {name: task.exam.items(name) for name in task.exam.limits}
    prices = task.asking.prices
    trial = Trial(
        arm=task.arm,
        seed=0,
        recipe=task.model,
        description="not trained, only asked",
        settings=(),
        inputs=task.inputs,
        exam=task.exam_hashes,
        steps=0,
        samples=0,
        box_style=model.box_style,
        measures=measures(entries, "model"),
        majority=measures(entries, "majority"),
        answers={n: stored_answers(task.run, n, items) for n, items in questions.items()},
        curve=(),
        level_weights={},
        price=None,
        weights=model.fingerprint,
        measured=None,
        asked=Asked(**vars(usage), cost=None if prices is None else usage.cost(prices)),
    )
    for seed, path in task.records.items():
        one = with_earlier_answers(replace(trial, seed=seed), load_trial(path))
        save_trial(path, one)


def add_up(folder: Path, usage: Usage) -> Usage:
    """Return what asking has taken in this run and those before it, and write it down."""
    path = folder / USAGE_FILE
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    counts = {
        key: known.get(key, 0) + value for key, value in vars(usage).items() if key != "refused"
    }
    write_json(path, counts)
    return Usage(**counts, refused=remembered(folder, usage.refused))
