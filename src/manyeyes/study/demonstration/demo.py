"""The demo: what a second encoder is worth, on the built-in world, trained and scored here.

    OUT/world/                    pictures, questions, answers
    OUT/runs/, OUT/records/       a study of one seed (see ``comparison.compare``)
    OUT/report.html  OUT/model    the report, and a model to chat with

All arms get the same data in the same order, the same steps, seed and questions. Beside them stand
the same COMM model with the image withheld and the best constant answers. Every part is kept: a run
that was stopped continues where it was.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyeyes.environment import environment
from manyeyes.files import check_mark, held, marked_folder
from manyeyes.study.comparison.compare import RUNS, Settings, compare_held
from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.page import REPORT_FILE
from manyeyes.study.comparison.summary import BENCHMARK_TITLES, ArmSummary, Summary
from manyeyes.study.trials.arms import Progress
from manyeyes.study.trials.contestants import Contestant
from manyeyes.study.trials.trial import Presentation, arm_folder
from manyeyes.world.make import make_world, read_manifest

JSON_NAMES = {"vqa": "vqa", "rec": "rec", "pope": "pope", "caption": "cider"}
SPLIT = "test"
_GIB = 2.0**30


@dataclass(frozen=True)
class DemoArm:
    """One arm; ``images`` False: it is asked without them, and no model to keep.

    ``described``: what people call it who do not know its name.
    """

    name: str
    title: str
    recipe: str
    described: str = ""
    images: bool = True


DEMO_ARMS: tuple[DemoArm, ...] = (
    DemoArm("clip", "CLIP alone", "clip/world", "one with CLIP alone"),
    DemoArm("clip_levels", "CLIP, all levels", "clip/world-levels", "one with all levels of CLIP"),
    DemoArm("dinov2", "DINOv2 alone", "dinov2/world", "one with DINOv2 alone"),
    DemoArm(
        "comm", "COMM", "comm/world", "a model with two image encoders (COMM: CLIP and DINOv2)"
    ),
    DemoArm("text_only", "Text only", "comm/world", images=False),
)
"""To add an arm: a line. Every arm that sees the image is compared with `CHALLENGER`. COMM over the
levels of CLIP alone is the control: it tells whether a gain is the second encoder's."""

CHALLENGER = "comm"
"""The arm that the demo is about."""


@dataclass(frozen=True)
class DemoSize:
    """How much is made, trained and asked; equal for all arms.

    images: pictures by split. limits: questions by benchmark (None = all). settings: ``--set``
    values for all recipes. from_scratch: without the starts that ship with the world.
    """

    images: Mapping[str, int] = field(default_factory=lambda: {"train": 1500, SPLIT: 250})
    limits: Mapping[str, int | None] = field(
        default_factory=lambda: {"vqa": 600, "rec": 300, "pope": 600, "caption": 150}
    )
    arms: tuple[DemoArm, ...] = DEMO_ARMS
    settings: tuple[str, ...] = ()
    from_scratch: bool = False


@dataclass(frozen=True)
class Demo:
    """A finished demo: the ``summary`` of its study, and what ``manyeyes demo --json`` prints."""

    summary: Summary
    printed: dict[str, Any]


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    size: DemoSize | None = None,
    progress: Progress | None = None,
) -> Demo:
    """Run the demo in ``out``, or continue it there.

    1. make the world   2. train, ask and compare the arms   3. report   4. a model to chat with

    Accuracies are in 0..100, CIDEr-D times 100.

    Raises:
        UsageError: ``out`` holds a run with another seed or size.
        InUseError: another process works in ``out``.
        CheckpointError: the world's parts are missing from this installation.
    """
    with held(out):
        return _run_demo(Path(out), seed, size or DemoSize(), progress)


def _run_demo(folder: Path, seed: int, size: DemoSize, progress: Progress | None) -> Demo:
    started = time.monotonic()
    check_mark(folder / "model")
    make_world(folder / "world", images=size.images, seed=seed, progress=progress)
    settings = Settings(
        seeds=1,
        first_seed=seed,
        data_dir=folder / "world",
        benchmarks=tuple(BENCHMARK_TITLES),
        split=SPLIT,
        limits=size.limits,
        presentation=_presentation(folder, seed, size.arms),
    )
    arms = [Contestant(a.name, a.recipe, size.settings, images=a.images) for a in size.arms]
    if size.from_scratch:
        arms = [arm.from_scratch() for arm in arms]
    summary = compare_held(arms, folder, settings, progress=progress).summary
    best = better_arm(summary)
    _copy_model(folder / RUNS / arm_folder(best) / f"seed-{seed}" / "model", folder / "model")
    printed = {
        "arms": {arm.name: scores(arm.means) for arm in summary.arms},
        "majority": scores(summary.majority),
        "verdict": headline(summary),
        "seconds": round(time.monotonic() - started, 1),
        "peak_gib": round(peak_gib(), 2),
        "report": str(folder / REPORT_FILE),
        "model": str(folder / "model"),
        "model_arm": best,
    }
    return Demo(summary, printed)


def scores(means: Mapping[str, float]) -> dict[str, float]:
    """Return ``{"vqa": …, "rec": …, "pope": …, "cider": …}``."""
    return {JSON_NAMES[benchmark]: round(value, 2) for benchmark, value in means.items()}


def better_arm(summary: Summary) -> str:
    """Return the trained arm with the highest mean accuracy (COMM where it is among the best)."""

    def merit(arm: ArmSummary) -> tuple[float, bool]:
        accuracies = [value for name, value in arm.means.items() if name != "caption"]
        return sum(accuracies) / max(1, len(accuracies)), arm.name == CHALLENGER

    return max(summary.compared, key=merit).name


def peak_gib() -> float:
    """Return the largest resident size so far of this process or one of its children, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    own, children = (
        resource.getrusage(who).ru_maxrss * unit
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return max(own, children) / _GIB


def _presentation(folder: Path, seed: int, arms: tuple[DemoArm, ...]) -> Presentation:
    manifest = read_manifest(folder / "world")
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest["images"].items())
    picture = f"{folder.name}/world/images/{SPLIT}/000000.png"
    found = environment()
    return Presentation(
        title="One encoder or two? CLIP alone against COMM",
        challenger=CHALLENGER,
        titles={arm.name: arm.title for arm in arms},
        described={arm.name: arm.described for arm in arms if arm.described},
        notes=(
            "All models learned from the same drawn pictures, in the same order and for as many "
            "steps, and answered the same questions.",
        ),
        facts={
            "Data": {
                "world": f"seed {manifest['seed']}, version {manifest['version']}",
                "images": counts,
            },
            "Environment": {key: f"{value}" for key, value in found.items() if value is not None},
        },
        commands=(
            f"manyeyes demo --out {folder.name} --seed {seed}",
            f"manyeyes chat {folder.name}/model --image {picture}",
        ),
    )


def _copy_model(source: Path, target: Path) -> None:
    with marked_folder(target) as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)
