"""Two CPU processes under DDP and FSDP2 train as one process does, and runs move between them.

Tolerance: float32 sums come in another order on two ranks. Over the seven steps here losses agree
to 1e-5 and weights to 1e-4 (with Adam, a rounding error in a tiny gradient could move a weight by
as much as the learning rate, 1e-3, if it turned its sign).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_parts import lora_stage
from manyeyes.recipes import load_recipe
from manyeyes.training import train
from manyeyes.training.saving.folders import checkpoints
from processes import on_two_ranks
from training_runs import largest_difference, losses, recipe_data, write_recipe

pytestmark = pytest.mark.long

Workspace = Callable[[], Path]
SCRIPT = Path(__file__).with_name("distributed_process.py")


def keep_until(run: Path, step: int) -> None:
    """Make a finished stage look as if it had been killed after ``step``."""
    (run / "align" / "results.json").unlink()
    for path in checkpoints(run / "align"):
        if int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)
    shutil.rmtree(run / "model")


@pytest.fixture(scope="module")
def root(parts: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process, then start two processes once for all runs of the tests below."""
    root = tmp_path_factory.mktemp("distributed")
    write_recipe(root / "recipe.yaml", recipe_data(parts))
    shutil.copytree(data, root / "data")
    recipe = load_recipe(root / "recipe.yaml")
    train(recipe, root / "single", data_dir=root / "data")
    for name in ("single-to-ddp", "single-to-fsdp"):
        train(recipe, root / name, data_dir=root / "data", stage="align")
        keep_until(root / name, step=2)
    held_out = {"data": [{"path": "train.json"}], "every": 2, "limit": 5}
    train_block = {"fusion": True, "bridge": True, "language": {"lora": {"rank": 2, "dora": True}}}
    stage = lora_stage(train=train_block, packing=True, eval=held_out)
    write_recipe(root / "lora.yaml", recipe_data(parts, stages=[stage]))
    train(load_recipe(root / "lora.yaml"), root / "lora", data_dir=root / "data")
    on_two_ranks(SCRIPT, root)
    return root


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_give_the_loss_curve_and_weights_of_one(root: Path, kind: str) -> None:
    for stage in ("align", "instruct"):
        single, double = losses(root / "single" / stage), losses(root / kind / stage)
        assert double == pytest.approx(single, abs=1e-5)
    assert largest_difference(root / kind / "model", root / "single" / "model") < 1e-4


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_run_of_one_process_continues_on_two(root: Path, kind: str) -> None:
    moved, single = root / f"single-to-{kind}" / "align", root / "single" / "align"
    assert losses(moved) == pytest.approx(losses(single), abs=1e-5)
    assert largest_difference(moved / "checkpoint-4", single / "checkpoint-4") < 1e-4


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_run_of_two_processes_continues_on_one(root: Path, kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(root / kind, out)
    shutil.rmtree(out / "instruct")
    keep_until(out, step=2)
    recipe = load_recipe(root / "recipe.yaml")
    if kind == "fsdp":
        recipe = load_recipe(root / "recipe.yaml", ["training.fsdp=false"])
    train(recipe, out, data_dir=root / "data", stage="align", resume=True)
    single = root / "single" / "align"
    assert losses(out / "align") == pytest.approx(losses(single), abs=1e-5)
    assert largest_difference(out / "align" / "checkpoint-4", single / "checkpoint-4") < 1e-4


def test_shards_of_lora_packed_and_validated_are_those_of_one_process(root: Path) -> None:
    single, double = root / "lora", root / "lora-fsdp"
    assert losses(double / "align") == pytest.approx(losses(single / "align"), abs=1e-5)
    assert largest_difference(double / "model", single / "model") < 1e-4
    told = [
        [entry["eval_loss"] for entry in map(json.loads, lines) if "eval_loss" in entry]
        for lines in (
            (run / "align/log.jsonl").read_text().split("\n")[:-1] for run in (single, double)
        )
    ]
    assert len(told[0]) == 2 and told[1] == pytest.approx(told[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_every_rank_leaves_its_random_state(root: Path, kind: str) -> None:
    files = {path.name for path in (root / kind / "align" / "checkpoint-4").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "scheduler.pt"} <= files


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ranks_draw_dropout_of_their_own(root: Path, kind: str) -> None:
    folder = root / kind / "align" / "checkpoint-4"
    one, other, single = (
        torch.load(path, weights_only=False)["cpu"]
        for path in (
            folder / "rng_state_0.pth",
            folder / "rng_state_1.pth",
            root / "single" / "align" / "checkpoint-4" / "rng_state.pth",
        )
    )
    assert torch.equal(one, single) and not torch.equal(one, other)
