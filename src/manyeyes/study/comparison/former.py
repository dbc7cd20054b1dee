"""Demos of former versions, read as the studies that they were.

RUN/study.json     the study, its arms, their scores, curves and level weights
RUN/items.jsonl    one line per benchmark item: question, truth, each arm's answer and score
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from manyeyes.errors import DataError
from manyeyes.study.record import CurvePoint, Measure, StudyItem
from manyeyes.study.trials.trial import (
    RECORDS,
    STUDY_FILE,
    Presentation,
    Said,
    StudyPlan,
    Trial,
    read_items,
    read_record,
)

ITEMS_FILE = "items.jsonl"
TEXT_ONLY, MAJORITY = "text_only", "majority"
BOX_STYLE = "shikra"
"""Of both recipes that former demos trained."""


@dataclass(frozen=True)
class FormerArm:
    """A trained model, or a baseline that answers without seeing the image."""

    name: str
    title: str
    description: str = ""
    baseline: bool = False
    measures: Mapping[str, Measure] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    level_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FormerStudy:
    """What a former demo kept; ``contrast``: the challenger and its reference."""

    title: str
    contrast: tuple[str, str]
    benchmarks: Mapping[str, str]
    arms: tuple[FormerArm, ...]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    seed: int = 0


def is_former(folder: Path) -> bool:
    """Whether a folder holds a demo of a former version, and no study of this one."""
    return (folder / STUDY_FILE).is_file() and not (folder / RECORDS / STUDY_FILE).is_file()


def read_former(folder: Path) -> tuple[StudyPlan, list[StudyItem], list[Trial]]:
    """Return the plan, the questions and the trials of a former demo.

    Raises:
        DataError: a file is missing or broken, or an answer of an arm is missing.
    """
    study = read_record(FormerStudy, folder / STUDY_FILE)
    items = read_items(folder / ITEMS_FILE)
    arms = [arm for arm in study.arms if arm.name != MAJORITY]
    majority = next((arm.measures for arm in study.arms if arm.name == MAJORITY), {})
    if not arms:
        raise DataError("a study has at least one", file=str(folder / STUDY_FILE), key="arms")
    plan = StudyPlan(
        arms={arm.name: arm.facts.get("recipe", arm.name) for arm in arms},
        seeds=1,
        budget=None,
        benchmarks=study.benchmarks,
        data=".",
        split="test",
        first_seed=study.seed,
        blind=[arm.name for arm in arms if arm.baseline],
        presentation=Presentation(
            title=study.title,
            challenger=study.contrast[0],
            titles={arm.name: arm.title for arm in arms},
            notes=study.notes,
            facts={**{arm.title: arm.facts for arm in arms if arm.facts}, **study.facts},
            commands=study.commands,
        ),
    )
    trials = [_trial(arm, study, items, majority) for arm in arms]
    return plan, [replace(item, answers={}) for item in items], trials


def _trial(
    arm: FormerArm,
    study: FormerStudy,
    items: list[StudyItem],
    majority: Mapping[str, Measure],
) -> Trial:
    answers: dict[str, dict[str, Said]] = {name: {} for name in study.benchmarks}
    for item in items:
        if arm.name not in item.answers:
            raise DataError(f"{item.benchmark} item {item.id!r} has no answer of arm {arm.name!r}")
        said = item.answers[arm.name]
        answers[item.benchmark][item.id] = Said(said.text, said.score)
    return Trial(
        arm=arm.name,
        seed=study.seed,
        recipe=arm.facts.get("recipe", arm.name),
        description=arm.description,
        settings=(),
        inputs={},
        exam={},
        steps=max((point.step for point in arm.curve), default=0),
        samples=0,
        box_style=BOX_STYLE,
        measures=arm.measures,
        majority=majority,
        answers=answers,
        curve=arm.curve,
        level_weights=arm.level_weights,
        price=None,
        weights=arm.facts.get("weights (SHA-256)", ""),
        measured=None,
    )
