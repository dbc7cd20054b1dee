"""The demo's plumbing on a micro budget: tiny random parts, two steps, a handful of questions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import UsageError
from manyeyes.study.comparison.headline import headline
from manyeyes.study.comparison.outputs import write_outputs
from manyeyes.study.comparison.summary import summarize
from manyeyes.study.demonstration.demo import DEMO_ARMS, DemoSize, better_arm, run_demo
from study_trials import write_study

LIMITS = {"vqa": 4, "rec": 3, "pope": 4, "caption": 2}


def recipe(folder: Path, parts: Path, name: str, encoders: tuple[str, ...]) -> str:
    """Write a one-stage recipe over tiny parts; return its path."""
    model = tiny.model_block(parts, encoders=encoders)
    if len(encoders) == 1:
        model["fusion"] = {"name": "single", "projector": "mlp2x"}
        model["encoders"][0]["levels"] = [-2]
    stage = {
        "name": "train",
        "train": {"fusion": True, "bridge": True},
        "data": [{"path": "llava/train.json", "image_root": "images"}],
        "cache_features": True,
        "training": {
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "logging_steps": 1,
            "report_to": [],
            "use_cpu": True,
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "model": model, "stages": [stage]}))
    return str(path)


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> DemoSize:
    folder = tmp_path_factory.mktemp("recipes")
    clip, _, _, comm, text_only = DEMO_ARMS
    both = recipe(folder, parts, "comm", ("clip", "dinov2"))
    return DemoSize(
        images={"train": 8, "test": 4},
        limits=LIMITS,
        arms=(
            replace(clip, recipe=recipe(folder, parts, "clip", ("clip",))),
            replace(comm, recipe=both),
            replace(text_only, recipe=both),
        ),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, budget: DemoSize) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("run") / "demo"
    told: list[tuple[str, int, int]] = []
    result = run_demo(out, size=budget, progress=lambda *step: told.append(step))
    return {"out": out, "told": told, **result.printed}


def test_the_result_has_every_figure(finished: dict[str, Any]) -> None:
    assert set(finished["arms"]) == {"clip", "comm", "text_only"}
    for scores in [*finished["arms"].values(), finished["majority"]]:
        assert set(scores) == {"vqa", "rec", "pope", "cider"}
        assert all(0 <= scores[name] <= 100 for name in ("vqa", "rec", "pope"))
    assert finished["seconds"] > 0
    assert 0 < finished["peak_gib"] < 4
    assert Path(finished["report"]).is_file()
    json.dumps({key: value for key, value in finished.items() if key not in ("out", "told")})


def test_progress_follows_training_and_questions(finished: dict[str, Any]) -> None:
    told = finished["told"]
    for arm in ("trial 1 of 3, clip, seed 0", "trial 2 of 3, comm, seed 0"):
        assert [step for step in told if step[0] == f"{arm}: train"] == [
            (f"{arm}: train", 1, 2),
            (f"{arm}: train", 2, 2),
        ]
        assert (f"{arm}: rec", 3, 3) in told
    labels = {label for label, _, _ in told}
    assert "trial 3 of 3, text_only, seed 0: rec" in labels
    assert "trial 3 of 3, text_only, seed 0: train" not in labels  # it is the COMM model


def test_records_hold_every_question_and_arm(finished: dict[str, Any]) -> None:
    summary = summarize(finished["out"])
    counts = {name: sum(item.benchmark == name for item in summary.items) for name in LIMITS}
    assert counts == LIMITS
    data = finished["out"] / summary.plan.data
    assert all((data / item.image).is_file() for item in summary.items)
    assert finished["verdict"] == headline(summary)
    for arm in summary.arms:
        (trial,) = arm.trials
        assert {name: len(said) for name, said in trial.answers.items()} == LIMITS
        assert [point.step for point in trial.curve] == [1, 2]
        assert trial.measures["vqa"].n == 4
    assert set(summary.arm("comm").trials[0].level_weights) == {"clip", "dinov2"}
    comm, blind = summary.arm("comm").trials[0], summary.arm("text_only").trials[0]
    assert comm.weights == blind.weights and comm.inputs != blind.inputs
    assert {v.question.challenger for v in summary.verdicts} == {"comm"}
    assert {v.question.reference for v in summary.verdicts} == {"clip"}


def run_of(finished: dict[str, Any], arm: str) -> Path:
    folder: Path = finished["out"] / "runs" / arm / "seed-0"
    return folder


def test_the_arms_differ_only_in_their_model(finished: dict[str, Any]) -> None:
    both = [
        yaml.safe_load((run_of(finished, arm) / "recipe.yaml").read_text())
        for arm in ("clip", "comm")
    ]
    first, second = ({**r, "model": None, "name": None} for r in both)
    assert first == second
    assert both[0]["model"] != both[1]["model"]
    order = [
        json.loads(
            (run_of(finished, arm) / "train" / "checkpoint-2" / "data_state.json").read_text()
        )
        for arm in ("clip", "comm")
    ]
    assert order[0] == order[1]


def test_the_model_is_ready_to_answer(finished: dict[str, Any]) -> None:
    model = ManyEyesForConditionalGeneration.from_pretrained(finished["model"])
    processor = ManyEyesProcessor.from_pretrained(finished["model"])
    assert model.config.visual_tokens == processor.visual_tokens == 16


def test_a_finished_demo_is_not_trained_again(finished: dict[str, Any], budget: DemoSize) -> None:
    out = finished["out"]
    watched = [*out.glob("runs/*/*/train/checkpoint-2/model.safetensors")]
    assert len(watched) == 3
    watched += [*out.glob("records/*/*.json"), out / "world" / "world.json"]
    times = [path.stat().st_mtime_ns for path in watched]
    told: list[str] = []
    again = run_demo(out, size=budget, progress=lambda label, done, total: told.append(label))
    assert [path.stat().st_mtime_ns for path in watched] == times
    assert again.printed["arms"] == finished["arms"]
    assert not [label for label in told if "seed 0" in label]
    report = Path(finished["report"]).read_text()
    write_outputs(out)
    assert Path(finished["report"]).read_text() == report
    for words in ("CLIP alone", "Text only", "Captions (CIDEr-D × 100)", "best constant answer"):
        assert words in report
    assert f"manyeyes demo --out {out.name} --seed 0" in report


def test_another_seed_in_the_same_folder_is_refused(
    finished: dict[str, Any], budget: DemoSize
) -> None:
    with pytest.raises(UsageError, match="another world"):
        run_demo(finished["out"], seed=1, size=budget)


def test_the_better_arm_is_kept_and_comm_wins_ties(tmp_path: Path) -> None:
    write_study(tmp_path, images=2, seeds=1, good={"clip": 0.5, "comm": 0.5, "text_only": 0.5})
    summary = summarize(tmp_path)

    def with_scores(**scores: float) -> str:
        arms = tuple(
            replace(
                arm,
                means={"vqa": scores[arm.name], "caption": 999.0 * (arm.name == "comm")},
                blind=arm.name == "text_only",
            )
            for arm in summary.arms
        )
        return better_arm(replace(summary, arms=arms))

    assert with_scores(clip=60, comm=50, text_only=99) == "clip"
    assert with_scores(clip=50, comm=50, text_only=99) == "comm"
