"""What is kept of one arm trained with one seed: a small file that a study can be judged from.

    OUT/records/ARM/seed-S.json     one trial: scores, answers, loss, cost, hashes of its inputs
    OUT/records/questions.jsonl     the questions that all trials answered
    OUT/records/study.json          arms, seeds, budget, benchmarks
    OUT/records/pictures/           images that the report shows

With these files alone a study is continued elsewhere and its report made again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from manyeyes.errors import DataError
from manyeyes.files import write_text
from manyeyes.lines import split_lines
from manyeyes.study.costs.arm import Price
from manyeyes.study.record import CurvePoint, Measure, Seen, StudyItem

T = TypeVar("T")

RECORDS, PICTURES = "records", "pictures"
STUDY_FILE, QUESTIONS_FILE = "study.json", "questions.jsonl"


@dataclass(frozen=True)
class Said:
    """One answer: its text and the item's own score (a share 0..1; CIDEr-D on its own scale)."""

    text: str
    score: float


@dataclass(frozen=True)
class Measured:
    """What depends on the machine.

    ``train_seconds``: steps x the median time of one, encoding and saving not counted.
    ``encode_ms``: from pixels of one image to what the language model reads of it, mean of a batch.
    ``peak_gib``: largest resident memory of the process, or of the device where there is one.
    """

    train_seconds: float
    encode_ms: float
    peak_gib: float
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What asking a model behind an API took, over all runs of the study.

    ``requests`` that were answered; tokens by the server's count; ``refused``: item id -> why, of
    questions that count as wrong. ``cost``: by the prices that were given.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    refused: Mapping[str, str] = field(default_factory=dict)
    cost: float | None = None


@dataclass(frozen=True)
class Trial:
    """One arm, trained with one seed and examined.

    ``inputs``: hashes of what decides the weights (see `inputs`); ``exam``: benchmark -> hash of
    its questions. ``measures`` and ``majority``: benchmark -> headline; ``blind``: the same with
    the images withheld, of the first seed. ``answers``: benchmark ->
    item id -> what was said. ``box_style`` is that of boxes in the answers. ``weights``: SHA-256.
    Records of former demos have neither ``price`` nor ``measured``. ``asked``: of an arm that was
    not trained; None = it was. ``levels``: encoder -> the levels that ``level_weights`` weighs;
    older records do not say them.
    """

    arm: str
    seed: int
    recipe: str
    description: str
    settings: tuple[str, ...]
    inputs: Mapping[str, str]
    exam: Mapping[str, str]
    steps: int
    samples: int
    box_style: str
    measures: Mapping[str, Measure]
    majority: Mapping[str, Measure]
    answers: Mapping[str, Mapping[str, Said]]
    curve: tuple[CurvePoint, ...]
    level_weights: Mapping[str, tuple[float, ...]]
    price: Price | None
    weights: str
    measured: Measured | None
    blind: Mapping[str, Measure] = field(default_factory=dict)
    asked: Asked | None = None
    levels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Presentation:
    """How a study presents itself to readers who do not know its recipes.

    ``challenger``: the arm that the study is about, compared with every other one. ``titles``: arm
    -> what it is called; ``described``: arm -> what the first sentence calls it. ``facts``: further
    rows by heading; ``commands`` repeat the study.
    """

    title: str
    challenger: str
    titles: Mapping[str, str] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class StudyPlan:
    """The settings of a study, as its report states them.

    ``arms``: name -> recipe with its changes, in order. ``reference``: the arm that all others are
    compared with (None: every pair). ``benchmarks``: name -> title. ``data``: where the images of
    the questions lie. ``inputs``: arm -> hash of its trials' inputs, seed by seed.
    ``first_seed``: seeds are counted from it. ``blind``: arms that are asked without the image;
    they stand beside the others and take no part in the comparisons. ``seen``: what is
    known of asked pictures that were trained on.
    """

    arms: Mapping[str, str]
    seeds: int
    budget: str | None
    benchmarks: Mapping[str, str]
    data: str
    split: str
    limit: int | None = None
    reference: str | None = None
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    first_seed: int = 0
    blind: Sequence[str] = ()
    presentation: Presentation | None = None
    seen: Seen | None = None

    @property
    def seed_numbers(self) -> range:
        """The seeds of every arm."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def compared(self) -> list[str]:
        """The arms that see the image."""
        return [arm for arm in self.arms if arm not in self.blind]


def arm_folder(name: str) -> str:
    """Return an arm's name as that of a folder."""
    return name.replace("/", "-")


def trial_file(out: Path, folder: str, seed: int) -> Path:
    """Return where the record of one trial lies."""
    return out / RECORDS / folder / f"seed-{seed}.json"


def save_trial(path: Path, trial: Trial) -> None:
    """Write a trial's record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(trial), ensure_ascii=False) + "\n")


def load_trial(path: Path) -> Trial | None:
    """Return a stored trial, None if there is none; DataError if it is broken."""
    if not path.is_file():
        return None
    return read_record(Trial, path)


def with_earlier_answers(trial: Trial, before: Trial | None) -> Trial:
    """Keep what the same weights said to benchmarks that are not asked now."""
    if before is None or before.weights != trial.weights:
        return trial
    return replace(
        trial,
        exam={**before.exam, **trial.exam},
        measures={**before.measures, **trial.measures},
        majority={**before.majority, **trial.majority},
        blind={**before.blind, **trial.blind},
        answers={**before.answers, **trial.answers},
    )


def kept_picture(image: str) -> Path:
    """Return where the picture of an item is kept, relative to the study's folder."""
    outside = Path(image).is_absolute()
    name = hashlib.sha256(image.encode()).hexdigest()[:16] if outside else image
    return Path(RECORDS) / PICTURES / name


def save_plan(out: Path, plan: StudyPlan, questions: Sequence[StudyItem]) -> None:
    """Write the settings and the questions of a study."""
    folder = out / RECORDS
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(asdict(q), ensure_ascii=False)}\n" for q in questions)
    write_text(folder / QUESTIONS_FILE, lines)
    write_text(folder / STUDY_FILE, json.dumps(asdict(plan), indent=1, ensure_ascii=False))


def load_plan(out: Path) -> tuple[StudyPlan, list[StudyItem]]:
    """Read the settings and the questions of a study.

    Raises:
        DataError: a file is missing or broken.
    """
    folder = out / RECORDS
    plan: StudyPlan = read_record(StudyPlan, folder / STUDY_FILE)
    for key in ("arms", "benchmarks"):
        if not getattr(plan, key):
            raise DataError("a study has at least one", file=str(folder / STUDY_FILE), key=key)
    return plan, read_items(folder / QUESTIONS_FILE)


def read_items(path: Path) -> list[StudyItem]:
    """Read questions from a file of lines; DataError if it is missing or broken."""
    rows = enumerate(split_lines(_text(path)), start=1)
    return [_parsed(StudyItem, path, row, number) for number, row in rows if row.strip()]


def read_record(kind: type[T], path: Path) -> T:
    """Read a record of one JSON object; DataError if it is missing or broken."""
    found: T = _parsed(kind, path, _text(path))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror}); is this a study?", file=str(path)
        ) from error


@functools.cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _parsed(kind: Any, path: Path, text: str, line: int | None = None) -> Any:
    try:
        return _reader(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or None
        raise DataError(first["msg"], file=str(path), line=line, key=key) from error
