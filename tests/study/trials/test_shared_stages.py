"""Stages in common are trained once, and are what a trial would have trained itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manyeyes.files import write_json
from manyeyes.recipes import load_recipe
from manyeyes.study.comparison.compare import Settings, compare
from manyeyes.study.trials import jobs
from manyeyes.study.trials.budget import parse_budget
from manyeyes.study.trials.contestants import Contestant
from manyeyes.study.trials.inputs import Inputs
from manyeyes.study.trials.planned import PlannedTrial
from manyeyes.study.trials.shared_stages import note_stages, open_stages, take_finished
from manyeyes.world.make import make_world
from study_arms import stage, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "world"
    make_world(folder, images={"train": 8, "test": 6})
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> str:
    folder = tmp_path_factory.mktemp("recipes")
    return write_recipe(folder, parts, "clip", stages=[stage("first"), stage("second")])


def last_stage_of(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "results.json").read_text())
    return results


def test_a_stage_in_common_is_copied_and_changes_nothing(
    recipe: str, data: Path, tmp_path: Path
) -> None:
    arms = [
        Contestant("plain", recipe),
        Contestant("fast", recipe, ("stages.second.training.learning_rate=1e-2",)),
    ]
    settings = Settings(1, parse_budget("steps=4"), data, ("rec",), limit=4)
    compare(arms, tmp_path / "both", settings)
    compare([arms[1], arms[0]], tmp_path / "other", settings)
    runs = {study: tmp_path / study / "runs" for study in ("both", "other")}
    for arm in ("plain", "fast"):
        weights = [last_stage_of(runs[study] / arm / "seed-0")["weights"] for study in runs]
        assert weights[0] == weights[1]  # whichever of the two was trained, and which copied
    stages = [last_stage_of(runs["both"] / arm / "seed-0")["stages"] for arm in ("plain", "fast")]
    assert stages[0][0] == stages[1][0]  # with its seconds: it was trained once
    log = [(runs["both"] / arm / "seed-0" / "first" / "log.jsonl") for arm in ("plain", "fast")]
    assert log[0].read_text() == log[1].read_text()
    paces = [json.loads((f.parents[1] / "pace.json").read_text()) for f in log]
    assert paces[0]["first"] == paces[1]["first"] and set(paces[1]) == {"first", "second"}


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ("seed=7", []),
        ("model.fusion.projector=linear", []),
        ("stages.first.training.learning_rate=1", []),
        ("stages.second.training.learning_rate=1", ["first"]),
        ("stages.first.train.bridge=false", []),
        ("stages.second.data.0.limit=2", ["first"]),
        ("description=another", ["first", "second"]),
        ("model.tagger={family: file, checkpoint: tags.jsonl}", ["first"]),
    ],
)
def test_keys_hold_all_that_decides_the_weights(
    recipe: str, data: Path, change: str, equal: list[str]
) -> None:
    inputs = Inputs(data)
    plain = inputs.of_stages(load_recipe(recipe))
    changed = inputs.of_stages(load_recipe(recipe, [change]))
    assert [name for name in plain if plain[name] == changed[name]] == equal


def finished(run: Path, *stages: str) -> Path:
    for name in stages:
        (run / name).mkdir(parents=True)
        write_json(run / name / "results.json", {"stage": name, "by": run.parent.name})
    return run


def test_only_a_finished_beginning_is_taken(tmp_path: Path) -> None:
    keys = {"a": "1", "b": "2", "c": "3"}
    other = finished(tmp_path / "runs" / "one" / "seed-0", "a", "c")
    note_stages(other, keys)
    run = tmp_path / "runs" / "two" / "seed-0"
    run.mkdir(parents=True)
    note_stages(run, keys)
    assert list(open_stages(run, keys)) == ["2"]
    assert take_finished(run, keys) == {"a": other}  # c would follow on a b of its own
    assert json.loads((run / "a" / "results.json").read_text())["by"] == "one"
    assert not (run / "c").exists()
    (run / "b").mkdir()
    finished(other, "b")
    assert take_finished(run, keys) == {}  # b was begun here


def test_a_trial_waits_for_a_stage_in_common(tmp_path: Path, monkeypatch: Any) -> None:
    def task(arm: str, seed: int, keys: dict[str, str]) -> PlannedTrial:
        fields = dict.fromkeys(PlannedTrial.__dataclass_fields__)
        run = tmp_path / "runs" / arm / f"seed-{seed}"
        run.mkdir(parents=True)
        note_stages(run, keys)
        return PlannedTrial(**{**fields, "arm": arm, "seed": seed, "stages": keys, "run": run})  # type: ignore[arg-type]

    first = task("one", 0, {"a": "a0", "b": "b0"})
    second = task("two", 0, {"a": "a0", "b": "other"})
    third = task("one", 1, {"a": "a1", "b": "b1"})
    pool = jobs._Pool([second, third], 2, None, None)
    pool.running = [jobs._Running(first, None, None)]  # type: ignore[arg-type]
    assert pool._next() is third
    pool.waiting = [second]
    assert pool._next() is None
    finished(first.run, "a")
    assert pool._next() is second
