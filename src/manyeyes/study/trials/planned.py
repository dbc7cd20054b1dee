"""One trial from beginning to end: train, examine, measure, write the record.

OUT/runs/ARM/seed-S/            the training run (see ``training.run``), evaluation/ beside it
OUT/runs/ARM/seed-S/inputs.json the hashes that the run was started with
OUT/records/ARM/seed-S.json     the record; once it is there, the run is not needed any more
OUT/records/ARM/evidence.json   see ``evidence``
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.environment import environment
from manyeyes.errors import UsageError
from manyeyes.files import file_sha256, remove_folder, wait_until_free, write_json
from manyeyes.recipes import Recipe
from manyeyes.recipes.training_fields import on_this_machine
from manyeyes.study.costs.arm import Price
from manyeyes.study.trials.arms import (
    Exam,
    Progress,
    WithoutImages,
    labelled,
    level_weights,
    load_predictor,
    measures,
    read_curve,
    stored_answers,
    take_exam,
    weighted_levels,
)
from manyeyes.study.trials.evidence import evidence_items, keep_evidence
from manyeyes.study.trials.measurement import Pace, encode_ms, forget_peak, peak_gib
from manyeyes.study.trials.shared_stages import STAGES_FILE, note_stages, take_finished
from manyeyes.study.trials.trial import (
    Measured,
    Trial,
    load_trial,
    save_trial,
    with_earlier_answers,
)
from manyeyes.training import train

INPUTS_FILE, PACE_FILE = "inputs.json", "pace.json"
EVALUATION = "evaluation"
_RUN_FILES = (
    *(INPUTS_FILE, PACE_FILE, STAGES_FILE),
    *("recipe.yaml", "results.json", "model", "features", EVALUATION),
)
"""What a trial puts into the folder of its run, besides its stages."""
_DYING_SECONDS = 120.0
"""Longest wait for a trial whose study was killed, and which is just saving its last step."""

_IMAGES = 8
"""Images encoded together where the time of encoding is measured."""


@dataclass(frozen=True)
class PlannedTrial:
    """What one trial is made from; travels to another process.

    ``recipe`` is resolved: seed and budget are in it. ``stages``: see ``shared_stages``. ``run``:
    folder of the training run. ``record``: file to write. ``images`` False: the arm is asked
    without them. ``explain``: keep what a few answers came from.
    """

    arm: str
    seed: int
    recipe: Recipe
    settings: tuple[str, ...]
    price: Price
    inputs: Mapping[str, str]
    stages: Mapping[str, str]
    exam_hashes: Mapping[str, str]
    exam: Exam
    data_dir: Path
    features_dir: Path
    run: Path
    record: Path
    images: bool = True
    explain: bool = False

    @property
    def title(self) -> str:
        """The trial in words."""
        return f"{self.arm}, seed {self.seed}"

    @property
    def records(self) -> Mapping[int, Path]:
        """Its one record, by seed."""
        return {self.seed: self.record}


def run_trial(task: PlannedTrial, progress: Progress | None = None) -> Trial:
    """Run one trial, or continue it; write and return its record.

    Raises:
        KeyboardInterrupt: stopped, resumable. Otherwise what `train` and `evaluate` raise.
    """
    told = labelled(progress, task.title)
    forget_peak()
    for folder in (task.run, task.run / EVALUATION):
        wait_until_free(folder, _DYING_SECONDS)
    _claim(task)
    _take_stages(task)
    results = _trained(task, told)
    predictor = load_predictor(task.run / "model", task.exam)
    asked = predictor if task.images else WithoutImages(predictor)
    blind = task.exam.withheld and task.seed == 0
    entries = take_exam(asked, task.run / EVALUATION, task.exam, text_only=blind, progress=told)
    questions = {name: task.exam.items(name) for name in task.exam.limits}
    images = list(dict.fromkeys(i.image for items in questions.values() for i in items))
    price = task.price
    stages = results["stages"]
    trial = Trial(
        arm=task.arm,
        seed=task.seed,
        recipe=task.recipe.name,
        description=task.recipe.description,
        settings=task.settings,
        inputs=task.inputs,
        exam=task.exam_hashes,
        steps=sum(stage["steps"] for stage in stages),
        samples=sum(stage["samples"] for stage in stages),
        box_style=predictor.box_style,
        measures=measures(entries, "model"),
        majority=measures(entries, "majority"),
        blind=measures(entries, "text_only"),
        answers={n: stored_answers(task.run / EVALUATION, n, i) for n, i in questions.items()},
        curve=read_curve(task.run, task.recipe),
        level_weights=level_weights(predictor.model),
        levels=weighted_levels(predictor.model),
        price=price,
        weights=file_sha256(task.run / "model" / "model.safetensors"),
        measured=Measured(
            train_seconds=round(_train_seconds(task.run, stages), 2),
            encode_ms=round(encode_ms(predictor.model, predictor.processor, images[:_IMAGES]), 3),
            peak_gib=round(peak_gib(), 3),
            environment={**environment(), "precision": _precision(task.recipe)},
        ),
    )
    if task.explain:
        keep_evidence(predictor, evidence_items(questions), task.record.parent, told)
    trial = with_earlier_answers(trial, load_trial(task.record))
    save_trial(task.record, trial)
    return trial


def _precision(recipe: Recipe) -> str:
    """What the stages computed in, which ``bf16: auto`` leaves to the machine."""
    said = [on_this_machine(stage.training) for stage in recipe.stages]
    modes = [next((mode for mode in ("bf16", "fp16") if one.get(mode)), "fp32") for one in said]
    return ", ".join(dict.fromkeys(modes))


def check_run(task: PlannedTrial) -> None:
    """Check that the folder of a trial's run is free, or holds a run that a trial began.

    Raises:
        UsageError: something else stands there, which would be removed with the run.
    """
    if not task.run.is_dir():
        return
    stages = _noted(task.run / STAGES_FILE) or {}
    known = {*_RUN_FILES, *stages, *task.stages, *(stage.name for stage in task.recipe.stages)}
    others = sorted(p.name for p in task.run.iterdir() if p.name not in known and p.name[0] != ".")
    if _noted(task.run / INPUTS_FILE) is None or others:
        if any(task.run.iterdir()):
            why = f"it holds {others[0]!r}" if others else f"it has no whole {INPUTS_FILE}"
            raise UsageError(
                f"{task.run} may have to be made again, but was not made by a trial alone ({why}): "
                "move that away"
            )


def _claim(task: PlannedTrial) -> None:
    """Keep a run that was started with the same inputs; remove one that was not."""
    check_run(task)
    wanted = dict(task.inputs)
    if task.run.is_dir() and _noted(task.run / INPUTS_FILE) != wanted:
        remove_folder(task.run)
    write_json(task.run / INPUTS_FILE, wanted)


def _noted(path: Path) -> dict[str, Any] | None:
    """What a trial noted; None where there is no such note."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _take_stages(task: PlannedTrial) -> None:
    """Take what other trials have trained already, with the pace it was trained at."""
    note_stages(task.run, task.stages)
    for name, owner in take_finished(task.run, task.stages).items():
        pace = _known_pace(owner)
        if name in pace:
            write_json(task.run / PACE_FILE, {**_known_pace(task.run), name: pace[name]})


def _trained(task: PlannedTrial, progress: Progress) -> Mapping[str, Any]:
    pace = Pace()

    def step(stage: str, done: int, total: int) -> None:
        pace.step(stage, done, total)
        progress(stage, done, total)

    try:
        return train(
            task.recipe,
            task.run,
            data_dir=task.data_dir,
            resume=True,
            progress=step,
            features_dir=task.features_dir,
        ).results
    finally:
        if pace.seconds:
            write_json(task.run / PACE_FILE, {**_known_pace(task.run), **pace.seconds})


def _train_seconds(run: Path, stages: list[Mapping[str, Any]]) -> float:
    """Steps times their median time; of a stage whose pace was lost, what the run noted."""
    pace = _known_pace(run)
    return sum(
        stage["steps"] * pace[stage["stage"]] if stage["stage"] in pace else stage["seconds"]
        for stage in stages
    )


def _known_pace(run: Path) -> dict[str, float]:
    return _noted(run / PACE_FILE) or {}
