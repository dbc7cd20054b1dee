"""The demo's plumbing on a micro budget: tiny random parts, two steps, a handful of questions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import UsageError
from manyeyes.study.comparison.contrast import contrasts, verdict
from manyeyes.study.demonstration.demo import Budget, better_arm, demo_table, run_demo
from manyeyes.study.demonstration.report import write_report
from manyeyes.study.record import Arm, Measure, load_study

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
def budget(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Budget:
    folder = tmp_path_factory.mktemp("recipes")
    return Budget(
        images={"train": 8, "test": 4},
        limits=LIMITS,
        recipes={
            "clip": recipe(folder, parts, "clip", ("clip",)),
            "comm": recipe(folder, parts, "comm", ("clip", "dinov2")),
        },
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, budget: Budget) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("run") / "demo"
    told: list[tuple[str, int, int]] = []
    result = run_demo(out, budget=budget, progress=lambda *step: told.append(step))
    return {"out": out, "told": told, **result}


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
    for arm in ("CLIP alone", "COMM"):
        assert [step for step in told if step[0] == f"{arm}: train"] == [
            (f"{arm}: train", 1, 2),
            (f"{arm}: train", 2, 2),
        ]
        assert (f"{arm}: rec", 3, 3) in told


def test_records_hold_every_question_and_interval(finished: dict[str, Any]) -> None:
    study, items = load_study(finished["out"])
    counts = {name: sum(item.benchmark == name for item in items) for name in LIMITS}
    assert counts == LIMITS
    assert all(set(item.answers) == {"clip", "comm", "text_only"} for item in items)
    assert all((finished["out"] / item.image).is_file() for item in items)
    assert finished["verdict"] == verdict(study, contrasts(study, items))
    for arm in study.contestants:
        assert [point.step for point in arm.curve] == [1, 2]
        assert arm.measures["vqa"].ci95 is not None
        assert arm.measures["vqa"].n == 4
    assert set(study.arm("comm").level_weights) == {"clip", "dinov2"}
    assert set(study.arm("majority").measures) == set(LIMITS)


def test_the_arms_differ_only_in_their_model(finished: dict[str, Any]) -> None:
    both = [
        yaml.safe_load((finished["out"] / arm / "recipe.yaml").read_text())
        for arm in ("clip", "comm")
    ]
    first, second = ({**r, "model": None, "name": None} for r in both)
    assert first == second
    assert both[0]["model"] != both[1]["model"]
    order = [
        json.loads(
            (finished["out"] / arm / "train" / "checkpoint-2" / "data_state.json").read_text()
        )
        for arm in ("clip", "comm")
    ]
    assert order[0] == order[1]


def test_the_model_is_ready_to_answer(finished: dict[str, Any]) -> None:
    model = ManyEyesForConditionalGeneration.from_pretrained(finished["model"])
    processor = ManyEyesProcessor.from_pretrained(finished["model"])
    assert model.config.visual_tokens == processor.visual_tokens == 16


def test_a_finished_demo_is_not_trained_again(finished: dict[str, Any], budget: Budget) -> None:
    out = finished["out"]
    watched = [*out.glob("*/train/checkpoint-2/model.safetensors"), out / "world" / "world.json"]
    times = [path.stat().st_mtime_ns for path in watched]
    told: list[str] = []
    again = run_demo(out, budget=budget, progress=lambda label, done, total: told.append(label))
    assert [path.stat().st_mtime_ns for path in watched] == times
    assert again["arms"] == finished["arms"]
    assert "COMM: vqa (text only)" in told
    report = Path(finished["report"]).read_text()
    assert write_report(out).read_text() == report


def test_another_seed_in_the_same_folder_is_refused(
    finished: dict[str, Any], budget: Budget
) -> None:
    with pytest.raises(UsageError, match="another world"):
        run_demo(finished["out"], seed=1, budget=budget)


def test_the_table_shows_arms_and_difference(finished: dict[str, Any]) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(demo_table(finished["out"]))
    text = console.export_text()
    for word in ("CLIP alone", "Majority answer", "Captions (CIDEr-D × 100)", "COMM − CLIP"):
        assert word in text
    assert finished["verdict"].split()[0] in text


def test_the_better_arm_is_kept_and_comm_wins_ties() -> None:
    def arm(name: str, value: float, baseline: bool = False) -> Arm:
        measures = {"vqa": Measure("accuracy", value, 10), "caption": Measure("CIDEr", 999.0, 10)}
        return Arm(name, name, baseline=baseline, measures=measures)

    assert better_arm((arm("clip", 60), arm("comm", 50), arm("majority", 99, True))) == "clip"
    assert better_arm((arm("clip", 50), arm("comm", 50))) == "comm"
