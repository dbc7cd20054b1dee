"""What a study stores: arms, their scores, and every item with every arm's answer.

    RUN/study.json     the study, its arms, their scores, curves and level weights
    RUN/items.jsonl    one line per benchmark item: question, truth, each arm's answer and score

A report is made from these two files and the images they name, and from nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from manyeyes.errors import DataError
from manyeyes.files import write_text
from manyeyes.lines import split_lines
from manyeyes.records import Box

STUDY_FILE, ITEMS_FILE = "study.json", "items.jsonl"


@dataclass(frozen=True)
class Measure:
    """One score of one arm: ``value`` and ``ci95`` on the metric's scale, over ``n`` items."""

    metric: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None
    variant: str = "official"


@dataclass(frozen=True)
class CurvePoint:
    """Training loss (nats per supervised token) at an optimizer step of a stage."""

    stage: str
    step: int
    loss: float


@dataclass(frozen=True)
class Arm:
    """One contestant: a trained model, or a baseline that answers without learning from images.

    ``measures``: benchmark -> score. ``level_weights``: encoder -> weight of each level, for
    fusions that have them. ``facts``: further rows for the report's table of arms.
    """

    name: str
    title: str
    description: str = ""
    baseline: bool = False
    measures: Mapping[str, Measure] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    level_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What one arm said to one item.

    ``score`` is the item's own score (a share 0..1; CIDEr-D on its own scale); ``boxes`` are the
    boxes found in ``text``, in pixels of the original image.
    """

    text: str
    score: float
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class StudyItem:
    """One question of one benchmark, with the truth and every arm's answer (by arm name).

    ``image`` is relative to the run folder; ``cluster`` names the image for intervals; ``groups``
    maps a breakdown to this item's group (``{"question_type": "count"}``).
    """

    benchmark: str
    id: str
    image: str
    cluster: str
    question: str
    truth: str
    size: tuple[int, int] | None = None
    target: Box | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Everything a report shows.

    ``contrast`` names the two arms whose difference is the question (challenger, reference).
    ``benchmarks``: name -> title, in the order of the report. ``facts``: groups of rows (seeds,
    environment, hashes). ``commands`` reproduce the study, one line each.
    """

    title: str
    contrast: tuple[str, str]
    benchmarks: Mapping[str, str]
    arms: tuple[Arm, ...]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    seed: int = 0

    def arm(self, name: str) -> Arm:
        """Return the arm called ``name``; KeyError if there is none."""
        return {arm.name: arm for arm in self.arms}[name]

    @property
    def contestants(self) -> tuple[Arm, ...]:
        """The arms that are no baselines."""
        return tuple(arm for arm in self.arms if not arm.baseline)


def save_study(run_dir: Path, study: Study, items: Sequence[StudyItem]) -> None:
    """Write both files into ``run_dir``, each aside and renamed."""
    lines = "".join(f"{json.dumps(asdict(item), ensure_ascii=False)}\n" for item in items)
    write_text(run_dir / ITEMS_FILE, lines)
    write_text(run_dir / STUDY_FILE, json.dumps(asdict(study), indent=1, ensure_ascii=False))


def load_study(run_dir: Path) -> tuple[Study, list[StudyItem]]:
    """Read both files of ``run_dir``.

    Raises:
        DataError: a file is missing or broken (file and line named).
    """
    study = _parse(TypeAdapter(Study), _read(run_dir / STUDY_FILE), run_dir / STUDY_FILE)
    if not study.arms:
        raise DataError("a study has at least one", file=str(run_dir / STUDY_FILE), key="arms")
    path = run_dir / ITEMS_FILE
    adapter = TypeAdapter(StudyItem)
    rows = enumerate(split_lines(_read(path)), start=1)
    return study, [_parse(adapter, row, path, line) for line, row in rows if row.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read a study record ({error.strerror})", file=str(path)) from error


def _parse(adapter: TypeAdapter[Any], text: str, path: Path, line: int | None = None) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or None
        raise DataError(first["msg"], file=str(path), line=line, key=key) from error
