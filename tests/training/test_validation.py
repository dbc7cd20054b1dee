"""Validation while a stage trains: what is measured and left alone, the best step, stopping."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.data.dataset import ConversationDataset
from manyeyes.data.files import read_samples
from manyeyes.errors import RecipeError, UsageError
from manyeyes.recipes import Recipe
from manyeyes.training import train
from manyeyes.training.saving.folders import checkpoints
from manyeyes.training.validation.rows import HeldOut
from manyeyes.training.validation.validate import Validate
from training_runs import recipe_data, same_weights

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
HELD_OUT = {"data": [{"path": "held/train.json"}], "every": 1, "limit": 3}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data, and other data to validate on."""
    folder = tiny.save_data(tmp_path_factory.mktemp("both"), samples=12)
    tiny.save_data(folder / "held", samples=5, seed=9)
    return folder


def stage(parts: Path, **changes: Any) -> dict[str, Any]:
    return {**recipe_data(parts)["stages"][0], **changes}


def told(folder: Path, key: str) -> dict[int, float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {entry["step"]: entry[key] for entry in lines if key in entry}


def test_the_loss_of_other_rows_is_logged_and_nothing_else_changes(
    make_recipe: MakeRecipe, parts: Path, both: Path, tmp_path: Path
) -> None:
    train(make_recipe(stages=[stage(parts)]), tmp_path / "plain", data_dir=both)
    recipe = make_recipe(stages=[stage(parts, eval=HELD_OUT)])
    found = train(recipe, tmp_path / "out", data_dir=both)
    assert same_weights(tmp_path / "plain" / "model", tmp_path / "out" / "model")
    plain, out = (told(tmp_path / name / "align", "loss") for name in ("plain", "out"))
    assert plain == out and len(out) == 4
    losses = told(tmp_path / "out" / "align", "eval_loss")
    assert list(losses) == [1, 2, 3, 4]
    best = found.results["stages"][0]["best"]
    assert best["value"] == min(losses.values()) and losses[best["step"]] == best["value"]

    model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "out" / "model").eval()
    processor = ManyEyesProcessor.from_pretrained(tmp_path / "out" / "model")
    samples, _ = read_samples(both / "held" / "train.json")
    rows = [ConversationDataset(samples, processor)[place] for place in (0, 1, 3)]
    with torch.no_grad():
        expected = float(model(**processor.collate(rows)).loss)
    assert losses[4] == pytest.approx(expected, rel=1e-5)


def test_the_best_step_is_kept_and_training_stops_when_nothing_gets_better(
    make_recipe: MakeRecipe, parts: Path, both: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    values = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.5, 5: 0.5}
    monkeypatch.setattr(Validate, "_measure", lambda self, step: {"loss": values[step]})
    spec = {**HELD_OUT, "keep_best": True, "patience": 2}
    settings = ("training.save_total_limit=1", "training.save_steps=1")
    first = stage(parts, eval=spec, training={"max_steps": 6})
    recipe = make_recipe(*settings, stages=[first])
    found = train(recipe, tmp_path / "out", data_dir=both)
    out = tmp_path / "out" / "align"
    assert [path.name for path in checkpoints(out)] == ["checkpoint-2", "checkpoint-4"]
    assert found.results["stages"][0]["best"] == {"step": 2, "value": 1.0}
    assert found.results["stages"][0]["steps"] == 4
    assert same_weights(tmp_path / "out" / "model", out / "checkpoint-2")


def test_resuming_remembers_the_best_step(
    make_recipe: MakeRecipe, parts: Path, both: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    values = {1: 1.0, 2: 3.0, 3: 2.0, 4: 4.0}
    monkeypatch.setattr(Validate, "_measure", lambda self, step: {"loss": values[step]})
    recipe = make_recipe(stages=[stage(parts, eval={**HELD_OUT, "keep_best": True})])
    train(recipe, tmp_path / "out", data_dir=both)
    out = tmp_path / "out" / "align"
    (out / "results.json").unlink()
    (out / "checkpoint-4" / "trainer_state.json").unlink()
    found = train(recipe, tmp_path / "out", data_dir=both, resume=True)
    assert found.results["stages"][0]["best"] == {"step": 1, "value": 1.0}
    assert same_weights(tmp_path / "out" / "model", out / "checkpoint-1")


def test_benchmarks_are_scored_by_whoever_was_given(
    make_recipe: MakeRecipe, parts: Path, both: Path, tmp_path: Path
) -> None:
    asked = []

    def score(model: Any, processor: Any, spec: Any, folder: Path) -> dict[str, float]:
        asked.append((spec.benchmarks, spec.split, folder.name, model.training))
        torch.rand(3)  # draws of its own
        return {"rec": 10.0 * len(asked)}

    spec = {"every": 2, "benchmarks": ["rec"], "metric": "rec"}
    recipe = make_recipe(stages=[stage(parts, eval=spec)])
    with pytest.raises(UsageError, match=r"align\.eval\.benchmarks: pass `score`"):
        train(recipe, tmp_path / "none", data_dir=both)
    found = train(recipe, tmp_path / "out", data_dir=both, score=score)
    assert asked == [(("rec",), "val", "step-2", False), (("rec",), "val", "step-4", False)]
    assert told(tmp_path / "out" / "align", "eval_rec") == {2: 10.0, 4: 20.0}
    assert found.results["stages"][0]["best"] == {"step": 4, "value": 20.0}


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_processes_share_the_rows_and_go_together(ranks: int) -> None:
    held_out = HeldOut(list(range(10)), 10, lambda rows: {"rows": rows}, 2, limit=7)
    assert held_out.places() == [0, 1, 2, 4, 5, 7, 8]
    shares = [list(held_out.batches(rank, ranks)) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    counted = [
        row for share in shares for batch, counts in share if counts for row in batch["rows"]
    ]
    assert sorted(counted) == held_out.places()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"every": 2}, r"align\.eval: give `data`"),
        ({**HELD_OUT, "metric": "rec"}, r"metric: 'rec' is not measured.*measured: loss"),
        ({**HELD_OUT, "evry": 2}, r"unknown key 'evry' \(did you mean 'every'"),
        ({**HELD_OUT, "every": 0}, r"align\.eval\.every"),
    ],
)
def test_what_cannot_be_validated_is_refused(
    make_recipe: MakeRecipe, parts: Path, spec: Any, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(stages=[stage(parts, eval=spec)])


def test_a_stage_without_answers_has_no_loss_to_validate(
    make_recipe: MakeRecipe, parts: Path
) -> None:
    with pytest.raises(RecipeError, match="the loss of `next_token` is measured"):
        make_recipe(stages=[stage(parts, eval=HELD_OUT, objectives={"itc": 1.0})])
