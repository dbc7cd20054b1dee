"""Studies of tiny real models: the same for all arms, kept, resumed, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers.utils import logging

from manyeyes.errors import DataError, ManyEyesError, UsageError
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.study.comparison.compare import Finished, Settings, compare, told_from
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.trials import jobs
from manyeyes.study.trials.budget import parse_budget
from manyeyes.study.trials.contestants import Contestant
from manyeyes.study.trials.evidence import keep_evidence, kept_evidence
from manyeyes.study.trials.planned import PlannedTrial
from manyeyes.study.trials.trial import load_trial
from manyeyes.world.make import make_world
from study_arms import stage, write_recipe

pytestmark = pytest.mark.long

BENCHMARKS = ("vqa", "rec")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "world"
    make_world(folder, images={"train": 8, "test": 6})
    return folder


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> list[Contestant]:
    folder = tmp_path_factory.mktemp("recipes")
    both = [stage("first"), stage("second", max_steps=2)]
    return [
        Contestant("clip", write_recipe(folder, parts, "clip")),
        Contestant("comm", write_recipe(folder, parts, "clip+dinov2", stages=both)),
    ]


@pytest.fixture
def settings(data: Path) -> Settings:
    return Settings(
        seeds=2,
        budget=parse_budget("steps=3"),
        data_dir=data,
        benchmarks=BENCHMARKS,
        limit=8,
    )


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, arms: list[Contestant], data: Path
) -> tuple[Path, Finished]:
    out = tmp_path_factory.mktemp("study") / "out"
    settings = Settings(2, parse_budget("steps=3"), data, BENCHMARKS, limit=8)
    return out, compare(arms, out, settings)


def machine_free(results: dict[str, Any]) -> dict[str, Any]:
    """Drop what depends on the machine."""
    arms = {
        name: {key: value for key, value in arm.items() if key != "measured"}
        for name, arm in results["arms"].items()
    }
    return {**results, "arms": arms}


def read(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return machine_free(found)


def test_every_arm_gets_the_same(study: tuple[Path, Finished]) -> None:
    out, finished = study
    assert (finished.run, finished.kept) == (4, 0)
    states = {
        arm: json.loads((out / "runs" / arm / "seed-1" / place / "data_state.json").read_text())
        for arm, place in (("clip", "train/checkpoint-3"), ("comm", "first/checkpoint-2"))
    }
    for key in ("seed", "fingerprint", "length"):
        assert states["clip"][key] == states["comm"][key]
    for arm in ("clip", "comm"):
        for seed in (0, 1):
            trial = load_trial(out / "records" / arm / f"seed-{seed}.json")
            assert trial is not None
            assert (trial.steps, trial.samples) == (3, 6)
            assert set(trial.answers) == set(BENCHMARKS)
            assert len(trial.answers["vqa"]) == 8
            assert trial.measured.encode_ms > 0
            assert 0 < trial.measured.peak_gib < 8
            assert trial.measured.environment["precision"] in {"bf16", "fp32"}
            assert trial.price.trained < trial.price.parameters


def test_rows_without_images_are_compared_like_the_others(
    tmp_path: Path, arms: list[Contestant], data: Path, settings: Settings
) -> None:
    world = shutil.copytree(data, tmp_path / "world")
    file = world / "llava" / "train.json"
    talk = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    rows = [{"id": f"t{index}", "conversations": talk} for index in range(100)]
    file.write_text(json.dumps([*rows, *json.loads(file.read_text())]))
    finished = compare(arms, tmp_path / "out", replace(settings, seeds=1, data_dir=world))
    assert (finished.run, finished.kept) == (2, 0)
    for arm in ("clip", "comm"):
        trial = load_trial(tmp_path / "out" / "records" / arm / "seed-0.json")
        assert trial is not None and (trial.steps, len(trial.answers["vqa"])) == (3, 8)


def test_stages_share_the_budget(study: tuple[Path, Finished]) -> None:
    trial = load_trial(study[0] / "records" / "comm" / "seed-0.json")
    assert trial is not None
    steps = {
        stage: max(p.step for p in trial.curve if p.stage == stage) for stage in ("first", "second")
    }
    assert steps == {"first": 2, "second": 1}


def test_seeds_change_weights_and_features_are_shared(study: tuple[Path, Finished]) -> None:
    out, _ = study
    arms = read(out)["arms"]
    assert len({weights for arm in arms.values() for weights in arm["weights"]}) == 4
    # a store for each level: three of CLIP, of which one arm reads the second alone, two of DINOv2
    assert len(list((out / "features").iterdir())) == 5
    assert not list(out.glob("runs/*/*/features"))


def test_a_finished_study_is_only_read(
    study: tuple[Path, Finished], arms: list[Contestant], settings: Settings
) -> None:
    out, _ = study
    before = read(out)
    again = compare(arms, out, settings)
    assert (again.run, again.kept) == (0, 4)
    assert read(out) == before


def test_another_seed_costs_only_itself(
    study: tuple[Path, Finished], arms: list[Contestant], settings: Settings, tmp_path: Path
) -> None:
    out = copied(study[0], tmp_path / "more")
    told: list[str] = []
    more = compare(arms, out, replace(settings, seeds=3), note=told.append)
    assert (more.run, more.kept) == (2, 4)
    assert [line.split(":")[0] for line in told] == [
        "trial 5 of 6 is done",
        "trial 6 of 6 is done",
    ]


def test_what_changed_is_run_again(
    study: tuple[Path, Finished], arms: list[Contestant], settings: Settings, tmp_path: Path
) -> None:
    out = copied(study[0], tmp_path / "out")
    changed = [arms[0], replace(arms[1], settings=("training.learning_rate=2e-3",))]
    told: list[str] = []
    done = compare(changed, out, replace(settings, seeds=1), note=told.append)
    assert (done.run, done.kept) == (1, 1)
    assert told == [
        "comm, seed 0: run again, because of another recipe",
        "trial 2 of 2 is done: comm, seed 0",
    ]


def copied(study: Path, to: Path) -> Path:
    """A study's records without its runs, as they travel to another machine."""
    shutil.copytree(study / "records", to / "records")
    return to


def test_results_are_made_from_records_alone(study: tuple[Path, Finished], tmp_path: Path) -> None:
    out = copied(study[0], tmp_path / "elsewhere")
    write_outputs(out)
    assert read(out) == read(study[0])
    assert (out / "table.md").read_text() == (study[0] / "table.md").read_text()


def test_every_arm_explains_its_answers_to_the_same_questions(
    study: tuple[Path, Finished], tmp_path: Path
) -> None:
    found = {arm: kept_evidence(study[0] / "records" / arm) for arm in ("clip", "comm")}
    assert [e.benchmark for e in found["clip"]] == list(BENCHMARKS)
    assert [e.question for e in found["clip"]] == [e.question for e in found["comm"]]
    trial = load_trial(study[0] / "records" / "comm" / "seed-0.json")
    assert trial is not None
    for evidence in found["comm"]:
        said = [said.text.strip() for said in trial.answers[evidence.benchmark].values()]
        assert evidence.answer in said
        assert "What the answer depended on" in evidence.page
    page = (study[0] / "report.html").read_text()
    assert page.count("<iframe") == 4
    assert "Attention is weak evidence" not in page  # these arms have none to show
    out = copied(study[0], tmp_path / "before")
    for arm in found:
        (out / "records" / arm / "evidence.json").unlink()
    write_outputs(out)
    assert "<iframe" not in (out / "report.html").read_text()


def test_a_question_that_cannot_be_asked_alone_is_left_out(tmp_path: Path) -> None:
    item = Item("1", "nowhere.png", "<image>", ("no",), "1")
    keep_evidence(cast(ModelPredictor, None), {"vqa": item}, tmp_path)
    assert kept_evidence(tmp_path) == []


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_killed_study_ends_like_an_unbroken_one(
    study: tuple[Path, Finished],
    arms: list[Contestant],
    settings: Settings,
    tmp_path: Path,
) -> None:
    calls = 0

    def kill(label: str, done: int, total: int) -> None:
        nonlocal calls
        calls += "second" in label
        if calls == 1 and "seed 0: second" in label:
            raise Killed

    with pytest.raises(Killed):
        compare(arms, tmp_path, settings, progress=kill)
    assert (tmp_path / "records" / "clip" / "seed-0.json").is_file()
    assert not (tmp_path / "records" / "comm" / "seed-0.json").exists()
    done = compare(arms, tmp_path, settings)
    assert (done.run, done.kept) == (3, 1)
    assert read(tmp_path) == read(study[0])


def test_processes_give_the_same_and_a_killed_one_is_named(
    study: tuple[Path, Finished],
    arms: list[Contestant],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")  # of processes that are not told otherwise
    start = jobs._start

    def kill_comm(task: PlannedTrial) -> Any:
        running = start(task)
        if task.arm == "comm":
            os.kill(running.process.pid or 0, signal.SIGKILL)
        return running

    monkeypatch.setattr(jobs, "_start", kill_comm)
    few = replace(settings, seeds=1, jobs=2, benchmarks=("vqa",), limit=2)
    told: list[str] = []
    with pytest.raises(ManyEyesError, match=r"1 of 2 .*comm, seed 0: .*signal 9"):
        compare(arms, tmp_path, few, note=told.append)
    assert any("comm, seed 0 failed: " in text for text in told)
    monkeypatch.setattr(jobs, "_start", start)
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        done = compare(arms, tmp_path, few)
    finally:
        logging.set_verbosity(before)
    assert (done.run, done.kept) == (1, 1)
    assert "[transformers]" not in capfd.readouterr().err


def test_no_room_on_a_device_ends_one_trial_alone(
    study: tuple[Path, Finished],
    arms: list[Contestant],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(task: PlannedTrial, progress: Any) -> None:
        if task.arm == "comm":
            raise torch.OutOfMemoryError("CUDA out of memory")
        shutil.copytree(study[0] / "records" / task.arm, task.record.parent, dirs_exist_ok=True)

    monkeypatch.setattr(jobs, "run_trial", run)
    with pytest.raises(ManyEyesError, match=r"1 of 2 .*comm, seed 0: CUDA out of memory"):
        compare(arms, tmp_path, replace(settings, seeds=1))
    assert (tmp_path / "records" / "clip" / "seed-0.json").is_file()


def test_a_budget_below_one_step_is_refused(
    arms: list[Contestant], settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"too small for clip\+dinov2: stage 'second'"):
        compare(arms, tmp_path, replace(settings, budget=parse_budget("steps=1")))


def test_fewer_benchmarks_keep_what_was_answered(
    study: tuple[Path, Finished], arms: list[Contestant], settings: Settings, tmp_path: Path
) -> None:
    out = copied(study[0], tmp_path / "out")
    files = sorted((out / "records").glob("*/seed-*.json"))
    before = [path.read_bytes() for path in files]
    done = compare(arms, out, replace(settings, benchmarks=("vqa",)))
    assert done.run == 0
    assert {verdict.question.benchmark for verdict in done.summary.verdicts} == {"vqa"}
    assert [path.read_bytes() for path in files] == before


def test_a_trial_of_another_budget_is_not_taken(
    study: tuple[Path, Finished], tmp_path: Path
) -> None:
    out = copied(study[0], tmp_path / "out")
    path = out / "records" / "comm" / "seed-1.json"
    trial = json.loads(path.read_text())
    trial["inputs"]["recipe"] = "of another budget"
    path.write_text(json.dumps(trial))
    with pytest.raises(DataError, match=r"'comm', seed 1 was trained for another study"):
        write_outputs(out)


def test_arms_that_answered_other_questions_are_refused(
    study: tuple[Path, Finished], tmp_path: Path
) -> None:
    out = copied(study[0], tmp_path / "out")
    path = out / "records" / "comm" / "seed-0.json"
    trial = json.loads(path.read_text())
    trial["exam"]["vqa"] = "other"
    path.write_text(json.dumps(trial))
    with pytest.raises(DataError, match="did not answer the same questions of 'vqa'"):
        write_outputs(out)
    path.unlink()
    with pytest.raises(DataError, match="arm 'comm', seed 0 is not finished"):
        write_outputs(out)


def test_data_elsewhere_are_found_again_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told_from(Path("out"), Path("out/world")) == "world"
    outside = told_from(Path("out"), Path("world"))
    assert tmp_path / "out" / outside == tmp_path / "world"
