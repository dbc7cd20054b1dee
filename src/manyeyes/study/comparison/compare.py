"""``manyeyes compare``: arms x seeds on the same data, budget and questions, and a verdict.

    OUT/world/        the data that world recipes make for themselves when none is given
    OUT/features/     outputs of frozen encoders, shared by all arms and seeds
    OUT/runs/         training runs, one folder per arm and seed
    OUT/records/      what the verdicts are made from: small files (see ``trial``)
    OUT/results.json, table.md, report.html

A stopped study goes on with the same call. A trial is run again only where its inputs changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from manyeyes.errors import UsageError
from manyeyes.files import check_outputs, held, write_bytes
from manyeyes.inference.questions import Item
from manyeyes.recipes import Recipe
from manyeyes.records import PackedImage
from manyeyes.study.comparison.outputs import RESULTS_FILE, TABLE_FILE, write_outputs
from manyeyes.study.comparison.page import REPORT_FILE
from manyeyes.study.comparison.summary import BENCHMARK_TITLES, Summary, benchmark_title
from manyeyes.study.comparison.verdicts import every_pair
from manyeyes.study.costs.arm import Price, price_of
from manyeyes.study.record import Seen, StudyItem
from manyeyes.study.trials.arms import Exam, Progress, path_within, study_item
from manyeyes.study.trials.asked import ASKED, AskedArm, Asking
from manyeyes.study.trials.budget import Budget, with_budget
from manyeyes.study.trials.contestants import Contestant, check_arms
from manyeyes.study.trials.inputs import Inputs, digest_of, exam_digest
from manyeyes.study.trials.jobs import Task, run_trials
from manyeyes.study.trials.pace import StudyPace, minutes_per_step
from manyeyes.study.trials.planned import PlannedTrial, check_run
from manyeyes.study.trials.trial import (
    RECORDS,
    STUDY_FILE,
    Presentation,
    StudyPlan,
    kept_picture,
    load_trial,
    save_plan,
    trial_file,
)
from manyeyes.world.make import make_world

SPLIT = "test"
WORLD, FEATURES, RUNS = "world", "features", "runs"
IMAGES, WITHHELD = "images", "withheld"
"""Among the inputs of an arm that is asked without images."""


@dataclass(frozen=True)
class Settings:
    """What a study compares its arms on.

    seeds: number of seeds, from ``first_seed`` up. budget: of every arm (None: a recipe's steps).
    data_dir: folder of training data and benchmark files (None: the world that the recipes make).
    benchmarks: names (empty: the four of the demo). limit: questions of each; ``limits``: of one.
    reference: the arm that all others are compared with (None: every pair).
    jobs: trials at a time. presentation: how it presents itself (None: as arms and verdicts).
    seen: what is known of asked pictures that were trained on. asking: of arms behind an API.
    """

    seeds: int = 3
    budget: Budget | None = None
    data_dir: Path | None = None
    benchmarks: tuple[str, ...] = ()
    split: str = SPLIT
    limit: int | None = None
    reference: str | None = None
    jobs: int = 1
    first_seed: int = 0
    limits: Mapping[str, int | None] = field(default_factory=dict)
    presentation: Presentation | None = None
    seen: Seen | None = None
    asking: Asking = field(default_factory=Asking)


@dataclass(frozen=True)
class Finished:
    """What a study did: trials ``run`` now, trials ``kept`` from before, and what came out."""

    summary: Summary
    run: int
    kept: int


def compare(
    arms: Sequence[Contestant],
    out: str | Path,
    settings: Settings,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Finished:
    """Run, or continue, the study of ``arms`` in ``out`` and write its results and report.

    Raises:
        UsageError: fewer than two arms, equal names, a budget too small, no data.
        InUseError: another process works in ``out``.
        RecipeError, DataError, CheckpointError: what each is about, before the first step.
        ManyEyesError: some trials failed. KeyboardInterrupt: stopped, resumable.
    """
    folder = Path(out)
    with held(folder):
        return compare_held(arms, folder, settings, progress=progress, note=note)


def compare_held(
    arms: Sequence[Contestant],
    folder: Path,
    settings: Settings,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Finished:
    """As `compare`, in a folder that the caller holds (`files.held`)."""
    outputs = (RESULTS_FILE, TABLE_FILE, REPORT_FILE)
    check_outputs(folder, f"{RECORDS}/{STUDY_FILE}", ("arms", "benchmarks"), *outputs)
    run, kept = run_study(arms, folder, settings, progress=progress, note=note)
    return Finished(write_outputs(folder), run, kept)


def run_study(
    arms: Sequence[Contestant],
    folder: Path,
    settings: Settings,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[int, int]:
    """Make the records of a study; return how many trials were run now and how many kept.

    Raises: see `compare`.
    """
    if settings.seeds < 1:
        raise UsageError(f"a study needs at least one seed, got {settings.seeds}")
    check_arms(arms)
    benchmarks = settings.benchmarks or tuple(BENCHMARK_TITLES)
    every_pair([arm.name for arm in arms], benchmarks, settings.reference)
    recipes = {arm.name: arm.load(seed=0) for arm in arms if not arm.served}
    data = study_data(folder, recipes, settings, progress, note)
    limits = {name: settings.limits.get(name, settings.limit) for name in benchmarks}
    exam = Exam(data, settings.split, limits, withheld=all(arm.images for arm in arms))
    questions = {name: exam.items(name) for name in benchmarks}
    planner = _Planner(folder, data, exam, questions, settings, progress)
    tasks = planner.tasks(arms, recipes)
    items = [_question(name, item, data) for name, group in questions.items() for item in group]
    save_plan(folder, _plan(arms, settings, benchmarks, data, folder, tasks), items)
    _keep_packed([item for group in questions.values() for item in group], folder, data)
    open_tasks = [task for task in tasks if not _is_done(task, note)]
    for task in open_tasks:
        if isinstance(task, PlannedTrial):
            check_run(task)
    pace = StudyPace([task.title for task in tasks], [task.title for task in open_tasks], note)
    run_trials(
        open_tasks,
        jobs=settings.jobs,
        progress=pace.numbered(progress),
        finished=lambda task: pace.finished(task.title),
        failed=lambda task, reason: note(f"{task.title} failed: {reason}"),
    )
    return len(open_tasks), len(tasks) - len(open_tasks)


def study_data(
    folder: Path,
    recipes: Mapping[str, Recipe],
    settings: Settings,
    progress: Progress | None,
    note: Callable[[str], None],
) -> Path:
    """Return the data folder: the one that was given, or the world that the recipes ask for.

    Raises:
        UsageError: none was given and the recipes make none, or different ones.
    """
    if settings.data_dir is not None:
        return settings.data_dir
    if not recipes:
        raise UsageError("give the data folder with --data: no arm is trained, and so makes data")
    worlds = {name: recipe.world for name, recipe in recipes.items()}
    first = next(iter(worlds.values()))
    if first is None or any(world != first for world in worlds.values()):
        lacking = [name for name, world in worlds.items() if world is None]
        why = f"{lacking[0]!r} makes no data" if lacking else "the recipes make different worlds"
        raise UsageError(f"give the data folder with --data: {why}")
    place = folder / WORLD
    made = make_world(place, images=first.images, seed=first.seed, progress=progress)
    if made.made:
        note(f"no data folder given: made a world of {first.images} images in {place}")
    return place


@dataclass
class _Planner:
    """Turns arms and seeds into tasks."""

    folder: Path
    data: Path
    exam: Exam
    questions: Mapping[str, Sequence[Item]]
    settings: Settings
    progress: Progress | None

    def tasks(self, arms: Sequence[Contestant], recipes: Mapping[str, Recipe]) -> list[Task]:
        """Those that are only asked, then all trials, every arm of a seed before the next seed."""
        budget, inputs = self.settings.budget, Inputs(self.data)
        hashes = {name: exam_digest(items, self.data) for name, items in self.questions.items()}
        prices = {name: price_of(recipe) for name, recipe in recipes.items()}
        trained = [arm for arm in arms if not arm.served]
        costs = {arm.name: self._costs(arm, recipes[arm.name], prices[arm.name]) for arm in trained}
        found: list[Task] = [self._asked(arm, hashes) for arm in arms if arm.served]
        for seed in self._seeds:
            for arm in trained:
                recipe = with_budget(arm.load(seed), budget, costs[arm.name])
                found.append(
                    PlannedTrial(
                        arm=arm.name,
                        seed=seed,
                        recipe=recipe,
                        settings=arm.settings,
                        price=prices[arm.name],
                        inputs={
                            **inputs.of_training(recipe),
                            **inputs.of_exam(recipe, self.exam.split),
                            **({} if arm.images else {IMAGES: WITHHELD}),
                        },
                        stages=inputs.of_stages(recipe),
                        exam_hashes=hashes,
                        exam=self.exam,
                        data_dir=self.data,
                        features_dir=self.folder / FEATURES,
                        run=self.folder / RUNS / arm.folder / f"seed-{seed}",
                        record=trial_file(self.folder, arm.folder, seed),
                        images=arm.images,
                        explain=seed == self.settings.first_seed and arm.images,
                    )
                )
        return found

    @property
    def _seeds(self) -> range:
        return range(self.settings.first_seed, self.settings.first_seed + self.settings.seeds)

    def _asked(self, arm: Contestant, hashes: Mapping[str, str]) -> AskedArm:
        """An arm behind an API; raises ``UsageError`` where it could not be asked at all."""
        model = self.settings.asking.model(arm.recipe)
        model.close()
        return AskedArm(
            arm=arm.name,
            model=arm.recipe,
            inputs={ASKED: model.fingerprint},
            exam_hashes=hashes,
            exam=self.exam,
            asking=self.settings.asking,
            run=self.folder / RUNS / arm.folder,
            records={seed: trial_file(self.folder, arm.folder, seed) for seed in self._seeds},
        )

    def _costs(self, arm: Contestant, recipe: Recipe, price: Price) -> Mapping[str, float] | None:
        """What a step costs in the unit of the budget; None where its batch says it."""
        budget = self.settings.budget
        if budget is not None and budget.unit == "flops":
            return price.operations
        if budget is not None and budget.unit == "minutes":
            return minutes_per_step(
                recipe, arm.folder, self.folder, self.data, self.folder / FEATURES, self.progress
            )
        return None


def _plan(
    arms: Sequence[Contestant],
    settings: Settings,
    benchmarks: Sequence[str],
    data: Path,
    folder: Path,
    tasks: Sequence[Task],
) -> StudyPlan:
    return StudyPlan(
        arms={arm.name: arm.text for arm in arms},
        seeds=settings.seeds,
        budget=None if settings.budget is None else str(settings.budget),
        benchmarks={name: benchmark_title(name) for name in benchmarks},
        data=told_from(folder, data),
        split=settings.split,
        limit=settings.limit,
        reference=settings.reference,
        inputs={
            arm.name: [digest_of(t.inputs) for t in tasks if t.arm == arm.name for _ in t.records]
            for arm in arms
        },
        first_seed=settings.first_seed,
        blind=[arm.name for arm in arms if not arm.images],
        presentation=settings.presentation,
        seen=settings.seen,
    )


def _keep_packed(items: Sequence[Item], folder: Path, data: Path) -> None:
    """Keep images that lie inside a data file, which a report cannot read again."""
    shown = {image for item in items for image in (item.image, *item.more_images)}
    for image in (image for image in shown if isinstance(image, PackedImage)):
        path = folder / kept_picture(path_within(image, data))
        if not path.is_file():
            write_bytes(path, image.read())


def _question(benchmark: str, item: Item, data: Path) -> StudyItem:
    return study_item(benchmark, item, {}, data)


def _is_done(task: Task, note: Callable[[str], None]) -> bool:
    """Whether records with the same inputs and questions are there; says what changed if not."""
    trials = [load_trial(path) for path in task.records.values()]
    found = [trial for trial in trials if trial is not None]
    if len(found) < len(trials):
        return False
    changed = sorted(
        {
            key
            for trial in found
            for key in {*task.inputs, *trial.inputs}
            if trial.inputs.get(key) != task.inputs.get(key)
        }
    )
    examined = all(
        trial.exam.get(name) == value for trial in found for name, value in task.exam_hashes.items()
    )
    if changed:
        note(f"{task.title}: run again, because of another {' and '.join(changed)}")
    elif not examined:
        note(f"{task.title}: examined again, because of other questions")
    return not changed and examined


def told_from(folder: Path, data: Path) -> str:
    """Where ``data`` lies as seen from ``folder``: relative inside it, absolute elsewhere."""
    place = data.resolve()
    inside = place.is_relative_to(folder.resolve())
    return place.relative_to(folder.resolve()).as_posix() if inside else str(place)
