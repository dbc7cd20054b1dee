"""Two processes in one folder: the second is told who works there, or waits and reads safely."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import tiny
from attacks import run
from manyeyes.errors import InUseError
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.study.trials import planned
from manyeyes.training import ranks
from oracles import Oracle
from processes import command, holder, kill
from study_arms import stage, write_recipe
from training_runs import same_weights

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

Words = Callable[[Path, Path, Path], tuple[object, ...]]
"""A command's words, from recipes, data and the folder that it writes."""

COMMANDS: dict[str, tuple[Words, str | None]] = {
    "train": (lambda recipes, data, out: ("train", recipes / "clip.yaml", "--data", data), None),
    "compare": (
        lambda recipes, data, out: (
            *("compare", recipes / "clip.yaml", recipes / "dinov2.yaml"),
            *("--data", data, "--seeds", 1, "-b", "vqa"),
        ),
        None,
    ),
    "claims": (lambda recipes, data, out: ("claims", "--data", data), None),
    "demo": (lambda recipes, data, out: ("demo", "--images", 4), None),
    "world": (lambda recipes, data, out: ("world", "make", "--images", 40), "out"),
    "pretrain": (
        lambda recipes, data, out: ("world", "pretrain", "--part", "clip", "--steps", 1),
        "out/clip",
    ),
    "start": (
        lambda recipes, data, out: ("world", "pretrain", "--part", "starts/clip", "--steps", 1),
        "out/starts/clip",
    ),
}
"""Command -> its words, and the folder whose lock lies beside it (None: in --out)."""


@pytest.fixture(scope="module")
def recipes(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    for name in ("clip", "dinov2"):
        write_recipe(folder, parts, name)
    return folder


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_folder_at_work_is_not_touched(
    name: str, recipes: Path, world: Path, tmp_path: Path
) -> None:
    words, beside = COMMANDS[name]
    folder = tmp_path / (beside or "out")
    with holder(folder, beside=beside is not None) as process:
        before = sorted(tmp_path.rglob("*"))
        end = run(*words(recipes, world, tmp_path), "--out", tmp_path / "out")
        assert sorted(tmp_path.rglob("*")) == before
    assert (end.code, end.report["error"]["type"]) == (2, "InUseError")
    assert end.error.startswith(f"{folder} is in use by process {process} (")


def test_answers_of_two_evaluations_are_not_mixed(world: Path, tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(InUseError, match=f"{tmp_path} is in use by process {process} "):
            evaluate(Oracle(), ["vqa"], world, "val", tmp_path, limit=1)
    evaluate(Oracle(), ["vqa"], world, "val", tmp_path, limit=1)
    assert not list(tmp_path.glob(".*"))


def test_a_run_waits_for_the_store_that_another_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ranks, "_TURN_SECONDS", 0.1)
    caplog.set_level(logging.INFO, ranks.__name__)
    with holder(tmp_path) as process:
        threading.Timer(0.5, kill, (process,)).start()
        with ranks.held_by_run(tmp_path, waits=True):
            pass
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"waiting: {tmp_path} is in use by process {process} (")


def test_a_trial_waits_for_one_whose_study_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is just saving its last step in the same folder."""

    class Reached(Exception):
        pass

    def claim(one: planned.PlannedTrial) -> None:
        raise Reached

    monkeypatch.setattr(planned, "_claim", claim)
    one = SimpleNamespace(title="clip, seed 0", run=tmp_path)
    with holder(tmp_path) as process, pytest.raises(Reached):
        threading.Timer(0.3, kill, (process,)).start()
        planned.run_trial(one)  # type: ignore[arg-type]


@pytest.mark.slow
def test_of_two_trainings_in_one_folder_one_ends_well(
    parts: Path, world: Path, tmp_path: Path
) -> None:
    write_recipe(tmp_path, parts, "clip", stages=[stage("train", max_steps=40)])
    words = ("train", tmp_path / "clip.yaml", "--data", world)
    both = [command(*words, "--out", tmp_path / "out") for _ in range(2)]
    ends = sorted((process.communicate(timeout=600)[0], process.returncode) for process in both)
    codes = sorted(code for _, code in ends)
    assert codes == [0, 2], ends
    (refused,) = [json.loads(said)["error"] for said, code in ends if code == 2]
    assert refused["type"] == "InUseError" and "is in use by process" in refused["message"]
    alone = command(*words, "--out", tmp_path / "alone")
    alone.communicate(timeout=600)
    assert alone.returncode == 0
    assert same_weights(tmp_path / "out" / "model", tmp_path / "alone" / "model")


@pytest.mark.slow
def test_two_trainings_share_a_store(parts: Path, tmp_path: Path) -> None:
    """One fills it, the other waits and reads: each image is there once, and the weights agree."""
    data = tiny.save_data(tmp_path / "data", samples=200)
    own = stage("train", save_steps=100)
    own["data"] = [{"path": "train.json"}]
    write_recipe(tmp_path, parts, "clip", stages=[own])
    words = ("train", tmp_path / "clip.yaml", "--data", data, "--features", tmp_path / "store")
    both = [command(*words, "--out", tmp_path / f"out{number}") for number in range(2)]
    for process in both:
        _, told = process.communicate(timeout=600)
        assert process.returncode == 0, told
    stored = [
        image_id
        for index in (tmp_path / "store").glob("*/*.json")
        if index.name != "store.json"
        for image_id in json.loads(index.read_text())["ids"]
    ]
    assert len(stored) == len(set(stored)) == 200
    assert same_weights(tmp_path / "out0" / "model", tmp_path / "out1" / "model")
    assert not list(tmp_path.rglob("*.lock")) and not list(tmp_path.rglob("*.unfinished"))
