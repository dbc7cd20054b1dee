"""Minutes per optimizer step of an arm, measured once and then kept with the study.

A few steps of every stage are made with the arm's own data and thrown away, so that a budget of
minutes becomes a number of steps: the run then has a schedule that knows its end, and resumes
exactly. What is measured is this machine as it is now: measure on an idle one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from manyeyes.files import scratch_folder, write_json
from manyeyes.lines import duration_text
from manyeyes.recipes import Recipe
from manyeyes.study.trials.arms import Progress
from manyeyes.study.trials.inputs import digest_of
from manyeyes.study.trials.measurement import Pace
from manyeyes.study.trials.trial import RECORDS
from manyeyes.training import train

PACE_FILE = "pace.json"
STEPS = 10
"""Steps of each stage that are timed, the first ones of which do not count (see `Pace`)."""


def minutes_per_step(
    recipe: Recipe,
    name: str,
    out: Path,
    data_dir: Path,
    features_dir: Path,
    progress: Progress | None,
) -> Mapping[str, float]:
    """Return stage -> minutes of one step, from the study's records or measured now."""
    path = out / RECORDS / PACE_FILE
    known = json.loads(path.read_text()) if path.is_file() else {}
    key = digest_of(recipe.model_dump(mode="json", exclude={"name", "description", "world"}))
    if key not in known:
        known[key] = _measure(recipe, out / f"pace-{name}", data_dir, features_dir, progress)
        write_json(path, known)
    return {stage: seconds / 60.0 for stage, seconds in known[key].items()}


def _measure(
    recipe: Recipe, beside: Path, data_dir: Path, features_dir: Path, progress: Progress | None
) -> dict[str, float]:
    stages = [
        stage.model_copy(update={"training": {**stage.training, "max_steps": STEPS}})
        for stage in recipe.stages
    ]
    pace = Pace()

    def step(stage: str, done: int, total: int) -> None:
        pace.step(stage, done, total)
        if progress is not None:
            progress(f"pace of {recipe.name}: {stage}", done, total)

    short = recipe.model_copy(update={"stages": stages})
    with scratch_folder(beside) as folder:
        train(short, folder, data_dir=data_dir, progress=step, features_dir=features_dir)
    return pace.seconds


class StudyPace:
    """Which of a study's trials is at work, and how long the others will take.

    Args:
        every, waiting: titles of all trials, and of those that are still to be run.
        note: takes a sentence after each trial.
    """

    def __init__(
        self, every: Sequence[str], waiting: Sequence[str], note: Callable[[str], None]
    ) -> None:
        self.places = {title: place for place, title in enumerate(every, start=1)}
        self.waiting, self.note = len(waiting), note
        self.started, self.done = time.monotonic(), 0

    def numbered(self, progress: Progress | None) -> Progress | None:
        """Return ``progress`` with "trial i of n" in front of what a trial is doing."""
        if progress is None:
            return None

        def report(label: str, done: int, total: int) -> None:
            place = self.places.get(label.partition(": ")[0])
            said = label if place is None else f"trial {place} of {len(self.places)}, {label}"
            progress(said, done, total)

        return report

    def finished(self, title: str) -> None:
        """Say that a trial is done, and how long the rest will take at this pace."""
        self.done += 1
        left = self.waiting - self.done
        each = (time.monotonic() - self.started) / self.done
        rest = f"; about {duration_text(each * left)} left" if left else ""
        self.note(f"trial {self.places[title]} of {len(self.places)} is done: {title}{rest}")
