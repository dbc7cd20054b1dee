"""Commands killed at random moments: the same command again ends well, as if nothing had been.

Every command is killed at ``KILLS`` moments out of a seeded list, several times in one folder, and
each time it comes to its end its result is compared with that of an unbroken run.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from attacks import run
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.world.make import check_world, make_world
from processes import forked, kill
from study_arms import stage, write_recipe
from training_runs import losses, same_weights
from whole_model import Build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

KILLS = 12
LEFT = (".unfinished", "unfinished-", ".partial", ".lock", "answers.partial")
MACHINE = ("seconds", "environment", "measured")
"""Keys of records that differ from run to run."""


@dataclass
class Attack:
    """One command, by what it does in a folder, and how its result is compared with another's."""

    work: Callable[[Path], Any]
    same: Callable[[Path, Path], None]
    folder: Path
    seed: int
    killed: list[float] = field(default_factory=list)
    finished: int = 0

    def go(self) -> None:
        """Kill until ``KILLS`` processes were killed; compare whatever comes to its end."""
        self.folder.mkdir()
        whole, begin = self.folder / "whole", time.monotonic()
        self.finish(whole)
        usual, random_ = time.monotonic() - begin, random.Random(self.seed)
        while len(self.killed) < KILLS:
            out = self.folder / f"out{self.finished}"
            for share in self.moments(random_):
                if self.is_killed(out, share * usual):
                    self.killed.append(round(share, 2))
            self.finish(out)
            self.finished += 1
            self.same(out, whole)
            left = [path for path in self.folder.rglob("*") if any(e in path.name for e in LEFT)]
            assert left == []
        print(f"killed at {self.killed} of {usual:.1f} s, {self.finished} results equal")

    def moments(self, random_: random.Random) -> Iterator[float]:
        """Shares of an unbroken run's time, for the kills in one folder."""
        for _ in range(min(4, KILLS - len(self.killed))):
            yield random_.uniform(0.02, 0.9)

    def is_killed(self, out: Path, seconds: float) -> bool:
        """Start the work and kill it after so long; False where it had come to its end."""
        process = self.start(out)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitpid(process, os.WNOHANG) != (0, 0):
                return False
            time.sleep(0.005)
        kill(process)
        return True

    def finish(self, out: Path) -> None:
        _, status = os.waitpid(self.start(out), 0)
        assert status == 0, (self.folder / "said").read_text()

    def start(self, out: Path) -> int:
        return forked(lambda: self.run(out))

    def run(self, out: Path) -> None:
        """The body of a process."""
        try:
            self.work(out)
        except BaseException:
            (self.folder / "said").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)


def command(*words: object) -> Callable[[Path], None]:
    """Run a command with ``--out`` and see that it ends well."""

    def work(out: Path) -> None:
        end = run(*words, "--out", out, seconds=600.0)
        assert end.code == 0, end.report

    return work


def records(path: Path) -> Any:
    """A JSON file without what differs from run to run, and without its folder's name."""
    text = path.read_text().replace(str(path.parent), "OUT")
    return json.loads(text, object_hook=lambda o: {k: o[k] for k in o if k not in MACHINE})


def same_files(one: Path, other: Path, pattern: str) -> None:
    names = sorted(path.relative_to(one) for path in one.glob(pattern))
    assert names == sorted(path.relative_to(other) for path in other.glob(pattern)) != []
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_world(tmp_path / "data", images={"train": 12, "test": 12}, seed=1)
    return tmp_path / "data"


def test_train(parts: Path, data: Path, tmp_path: Path) -> None:
    stages = [stage("first", max_steps=12), stage("second", max_steps=8, save_steps=3)]
    recipe = write_recipe(tmp_path, parts, "clip+dinov2", stages=stages)

    def same(out: Path, whole: Path) -> None:
        assert same_weights(out / "model", whole / "model")
        for name in ("first", "second"):
            assert losses(out / name) == losses(whole / name)
        assert records(out / "results.json") == records(whole / "results.json")

    Attack(command("train", recipe, "--data", data, "--resume"), same, tmp_path / "runs", 1).go()


def test_world_make(tmp_path: Path) -> None:
    def same(out: Path, whole: Path) -> None:
        assert check_world(out) == []
        same_files(out, whole, "**/*.*")

    words = ("world", "make", "--images", 150, "--formats", "training")
    Attack(command(*words), same, tmp_path / "runs", 2).go()


def test_evaluate(build: Build, data: Path, tmp_path: Path) -> None:
    predictor = ModelPredictor(*build(), batch_size=4, max_new_tokens={"short": 6, "long": 12})
    names = ["vqa", "caption", "pope"]

    def work(out: Path) -> None:
        evaluate(predictor, names, data, "test", out, limit=24, chunk=4)

    def same(out: Path, whole: Path) -> None:
        same_files(out, whole, "predictions-*")
        assert records(out / "results.json") == records(whole / "results.json")

    Attack(work, same, tmp_path / "runs", 3).go()


def test_compare(parts: Path, data: Path, tmp_path: Path) -> None:
    recipes = [write_recipe(tmp_path, parts, name) for name in ("clip", "dinov2")]
    words = ("compare", *recipes, "--data", data, "--seeds", 2, "-b", "vqa", "--limit", 8)

    def same(out: Path, whole: Path) -> None:
        assert records(out / "results.json") == records(whole / "results.json")
        for path in sorted(whole.glob("records/*/seed-*.json")):
            assert records(out / path.relative_to(whole)) == records(path)

    Attack(command(*words), same, tmp_path / "runs", 4).go()
