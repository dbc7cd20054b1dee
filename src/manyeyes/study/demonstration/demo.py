"""The demo: CLIP alone against COMM on the built-in world, trained and scored here, nothing loaded.

    OUT/world/                    pictures, questions, answers
    OUT/clip/, OUT/comm/          one run per arm, with its evaluation
    OUT/study.json, items.jsonl   everything the report shows
    OUT/report.html  OUT/model    the report, and a model to chat with

Both arms get the same data in the same order, the same steps, seed and questions. Beside them stand
the same COMM model with the image withheld and the best constant answers. Every part is kept: a run
that was stopped continues where it was.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from manyeyes.evaluation.environment import describe_environment
from manyeyes.files import check_mark, held, marked_folder
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.study.comparison.contrast import MAJORITY, Contrast, contrasts, figure, verdict
from manyeyes.study.demonstration.report import write_report
from manyeyes.study.record import Answer, Arm, Measure, Study, StudyItem, load_study, save_study
from manyeyes.study.trials.arms import (
    Exam,
    Progress,
    describe_arm,
    load_predictor,
    measures,
    read_answers,
    study_item,
    take_exam,
)
from manyeyes.training import train
from manyeyes.training.saving.run_folder import check_run_folder
from manyeyes.world.make import make_world, read_manifest

CLIP, COMM, TEXT_ONLY = "clip", "comm", "text_only"
TITLES = {
    CLIP: "CLIP alone",
    COMM: "COMM",
    TEXT_ONLY: "Text only",
    MAJORITY: "Majority answer",
}
BENCHMARKS = {
    "vqa": "Questions (VQA accuracy)",
    "rec": "Boxes (REC, IoU ≥ 0.5)",
    "pope": "Yes/no (POPE accuracy)",
    "caption": "Captions (CIDEr-D × 100)",
}
JSON_NAMES = {"vqa": "vqa", "rec": "rec", "pope": "pope", "caption": "cider"}
SPLIT = "test"
_GIB = 2.0**30


@dataclass(frozen=True)
class Budget:
    """How much is made, trained and asked; equal for both arms.

    images: pictures by split. limits: questions by benchmark (None = all). recipes: arm -> recipe.
    settings: ``--set`` values for both recipes.
    """

    images: Mapping[str, int] = field(default_factory=lambda: {"train": 4000, SPLIT: 250})
    limits: Mapping[str, int | None] = field(
        default_factory=lambda: {"vqa": 1000, "rec": 500, "pope": 900, "caption": 250}
    )
    recipes: Mapping[str, str] = field(
        default_factory=lambda: {CLIP: "clip/world", COMM: "comm/world"}
    )
    settings: tuple[str, ...] = ()


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run the demo in ``out``, or continue it there; return what ``manyeyes demo --json`` prints.

    1. make the world   2. train both arms   3. ask all arms   4. report   5. a model to chat with

    Accuracies are in 0..100, CIDEr-D times 100.

    Raises:
        UsageError: ``out`` holds a run with another seed or budget.
        InUseError: another process works in ``out``.
        CheckpointError: the world's parts are missing from this installation.
    """
    with held(out):
        return _run_demo(Path(out), seed, budget or Budget(), progress)


def _run_demo(folder: Path, seed: int, budget: Budget, progress: Progress | None) -> dict[str, Any]:
    started = time.monotonic()
    recipes = {
        arm: load_recipe(name, [f"seed={seed}", *budget.settings])
        for arm, name in budget.recipes.items()
    }
    check_mark(folder / "model")
    for arm, recipe in recipes.items():
        check_run_folder(recipe, folder / arm, resume=True)
    world = folder / "world"
    make_world(world, images=budget.images, seed=seed, progress=progress)
    exam = Exam(world, SPLIT, budget.limits)
    entries = {}
    for arm, recipe in recipes.items():
        told = _labelled(progress, TITLES[arm])
        train(recipe, folder / arm, data_dir=world, resume=True, progress=told)
        entries[arm] = take_exam(
            load_predictor(folder / arm / "model", exam),
            folder / arm / "evaluation",
            exam,
            text_only=arm == COMM,
            progress=told,
        )
    arms = _arms(folder, recipes, entries)
    items = _items(folder, recipes, exam)
    best = better_arm(arms)
    _copy_model(folder / best / "model", folder / "model")
    seconds = time.monotonic() - started
    study = _study(folder, arms, seed, entries, seconds)
    save_study(folder, study, items)
    report = write_report(folder)
    return {
        "arms": {arm.name: scores(arm) for arm in arms if arm.name in (CLIP, COMM, TEXT_ONLY)},
        "majority": scores(study.arm(MAJORITY)),
        "verdict": verdict(study, contrasts(study, items)),
        "seconds": round(time.monotonic() - started, 1),
        "peak_gib": round(peak_gib(), 2),
        "report": str(report),
        "model": str(folder / "model"),
        "model_arm": best,
    }


def scores(arm: Arm) -> dict[str, float]:
    """Return ``{"vqa": …, "rec": …, "pope": …, "cider": …}`` of one arm."""
    return {
        JSON_NAMES[benchmark]: round(measure.value, 2)
        for benchmark, measure in arm.measures.items()
    }


def better_arm(arms: tuple[Arm, ...]) -> str:
    """Return the trained arm with the higher mean accuracy (COMM where they are equal)."""

    def merit(arm: Arm) -> tuple[float, bool]:
        accuracies = [m.value for name, m in arm.measures.items() if name != "caption"]
        return sum(accuracies) / max(1, len(accuracies)), arm.name == COMM

    return max((arm for arm in arms if not arm.baseline), key=merit).name


def peak_gib() -> float:
    """Return the largest resident size so far of this process or one of its children, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    own, children = (
        resource.getrusage(who).ru_maxrss * unit
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return max(own, children) / _GIB


def demo_table(out: str | Path) -> Table:
    """Return the scores of a finished demo as a table for the terminal."""
    study, items = load_study(Path(out))
    found = {c.benchmark: c for c in contrasts(study, items)}
    table = Table(title=study.title, title_justify="left")
    table.add_column("benchmark")
    for arm in study.arms:
        table.add_column(arm.title, justify="right", no_wrap=True)
    table.add_column("COMM − CLIP [95 %]", justify="right", no_wrap=True)
    for benchmark, title in study.benchmarks.items():
        cells = [_cell(arm.measures.get(benchmark), arm.baseline) for arm in study.arms]
        table.add_row(title, *cells, _difference(found.get(benchmark)))
    table.caption = verdict(study, list(found.values()))
    return table


def _cell(measure: Measure | None, baseline: bool) -> str:
    if measure is None:
        return "-"
    if baseline or measure.ci95 is None:
        return f"{measure.value:.1f}"
    return f"{measure.value:.1f} ({measure.ci95[0]:.1f}–{measure.ci95[1]:.1f})"


def _difference(contrast: Contrast | None) -> str:
    if contrast is None:
        return "-"
    style = {1: "green", -1: "red", 0: "dim"}[contrast.sign]
    return f"[{style}]{figure(contrast).replace('[', chr(92) + '[')}[/{style}]"


def _labelled(progress: Progress | None, title: str) -> Callable[[str, int, int], None]:
    def report(label: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{title}: {label}", done, total)

    return report


def _arms(
    folder: Path, recipes: Mapping[str, Recipe], entries: Mapping[str, Mapping[str, Any]]
) -> tuple[Arm, ...]:
    """The two trained arms and the two baselines, with their scores."""
    arms = []
    for name, recipe in recipes.items():
        arm = describe_arm(name, TITLES[name], folder / name, recipe)
        arms.append(_with(arm, measures(entries[name], "model")))
    withheld = "The COMM model, asked the same questions without the image."
    constant = "The best constant answer per kind of question, counted on the training split."
    for name, description, kind in (
        (TEXT_ONLY, withheld, "text_only"),
        (MAJORITY, constant, "majority"),
    ):
        arm = Arm(name=name, title=TITLES[name], description=description, baseline=True)
        arms.append(_with(arm, measures(entries[COMM], kind)))
    return tuple(arms)


def _with(arm: Arm, found: Mapping[str, Measure]) -> Arm:
    return Arm(**{**vars(arm), "measures": found})


def _items(folder: Path, recipes: Mapping[str, Recipe], exam: Exam) -> list[StudyItem]:
    collected = []
    for benchmark in exam.limits:
        items = exam.items(benchmark)
        answers: dict[str, dict[str, Answer]] = {}
        for name, recipe in recipes.items():
            style = str(recipe.model.get("box_style", "shikra"))
            place = folder / name / "evaluation"
            answers[name] = read_answers(place, benchmark, items, text_only=False, box_style=style)
            if name == COMM:
                answers[TEXT_ONLY] = read_answers(
                    place, benchmark, items, text_only=True, box_style=style
                )
        for item in items:
            said = {name: found[item.id] for name, found in answers.items()}
            collected.append(study_item(benchmark, item, said, folder))
    return collected


def _study(
    folder: Path,
    arms: tuple[Arm, ...],
    seed: int,
    entries: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> Study:
    manifest = read_manifest(folder / "world")
    files = {
        name: digest for entry in entries[COMM].values() for name, digest in entry["files"].items()
    }
    picture = f"{folder.name}/world/images/{SPLIT}/000000.png"
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest["images"].items())
    return Study(
        title="One encoder or two? CLIP alone against COMM",
        contrast=(COMM, CLIP),
        benchmarks=BENCHMARKS,
        arms=arms,
        notes=(
            "Both arms: same data in the same order, same steps, seed and questions. One training "
            "seed: the intervals tell how sure the scores of these two models are, not how "
            "another seed would come out.",
        ),
        facts={
            "Data": {
                "world": f"seed {manifest['seed']}, version {manifest['version']}",
                "images": counts,
                **{name: digest[:16] for name, digest in files.items()},
            },
            "Run": {
                "seed": str(seed),
                "duration": f"{seconds:.0f} s",
                "largest memory": f"{peak_gib():.2f} GiB",
            },
            "Environment": {
                key: value for key, value in describe_environment().items() if value is not None
            },
        },
        commands=(
            f"manyeyes demo --out {folder.name} --seed {seed}",
            f"manyeyes chat {folder.name}/model --image {picture}",
        ),
        seed=seed,
    )


def _copy_model(source: Path, target: Path) -> None:
    with marked_folder(target) as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)
