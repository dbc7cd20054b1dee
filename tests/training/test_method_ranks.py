"""Every stage of the four methods on two CPU processes, DDP and FSDP2, against one process.

Two steps each, saved after both; the second step is then repeated on one process from the two
processes' first checkpoint. The recipes hold no dropout, so nothing is random but masks and
negatives, which are drawn for the joined batch.

Tolerance (largest difference of a loss, of a weight): see ``LOSS`` and ``WEIGHT``. Sums come in
another order on two ranks. Adam turns a gradient that is only rounding, such as that of a key's
bias, into steps of full size in a random direction; the recipes here have an epsilon of 1e-3, far
above rounding, so that a weight moves as its gradient does. In bfloat16 what the second step
changes is also compared with what it changes on one process in float32: two processes may be
``ROUNDING`` times as far from that as one process in bfloat16 is, or ``SHARE`` of the step's size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from manyeyes.recipes import load_recipe
from manyeyes.training import train
from manyeyes.training.saving.folders import checkpoints
from method_recipes import STAGES, method_recipe, save_method_data, save_method_parts
from processes import on_two_ranks
from training_runs import largest_difference, losses, weights, write_recipe

SCRIPT = Path(__file__).with_name("method_process.py")
KINDS = ("ddp", "fsdp")
DTYPES = ("float32", "bfloat16")
LOSS = {"float32": 2e-6, "bfloat16": 1e-3}
"""Relative."""
WEIGHT = {"float32": 1e-5, "bfloat16": 1e-3}
"""Absolute; a step moves a weight by up to the learning rate, 1e-3."""
ROUNDING = 2.0
"""Two runs that round independently are sqrt(2) apart where each is 1 from the exact one."""
SHARE = {"ddp": 0.02, "fsdp": 0.2}
"""Of the Euclidean length of the step, over all weights. FSDP2 also gathers weights, and keeps the
states between layers, in bfloat16."""


def save_recipe(root: Path, name: str, data: dict[str, Any]) -> None:
    data["training"]["adam_epsilon"] = 1e-3
    write_recipe(root / f"{name}.yaml", data)


def assert_equal(found: Path, single: Path, stage: str, dtype: str, kind: str) -> None:
    """Compare losses and weights of a stage of two runs; print how far they are apart."""
    own, other = losses(found / stage), losses(single / stage)
    assert len(own) == 2
    weight = largest_difference(found / stage / "checkpoint-2", single / stage / "checkpoint-2")
    apart = max(abs(a - b) / abs(b) for a, b in zip(own, other, strict=True))
    print(f"{found.name} {stage}: loss {apart:.1e} weight {weight:.1e}")
    if dtype == "bfloat16":
        exact = last_step(Path(str(single).replace(dtype, "float32")) / stage)
        share, alone = (
            float((last_step(run / stage) - exact).norm() / exact.norm()) for run in (found, single)
        )
        assert share < max(ROUNDING * alone, SHARE[kind])
    assert own == pytest.approx(other, rel=LOSS[dtype])
    assert weight < WEIGHT[dtype]


def last_step(stage: Path) -> Tensor:
    """Return what the second step changed in all weights, as one vector."""
    after, before = (weights(stage / f"checkpoint-{step}") for step in (2, 1))
    assert after.keys() == before.keys()
    return torch.cat([(after[n] - before[n]).double().flatten() for n in sorted(after)])


def repeat_last_step(root: Path, run: str, stage: str) -> Path:
    """Go on from the first checkpoint of a stage of ``run`` on one process; return the run."""
    out = root / f"{run}-on-one"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(root / run, out)
    (out / stage / "results.json").unlink()
    shutil.rmtree(checkpoints(out / stage)[-1])
    shutil.rmtree(out / "model")
    recipe = load_recipe(root / f"{run.rpartition('-')[0]}.yaml")
    train(recipe, out, data_dir=root / "data", stage=stage, resume=True)
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    save_method_parts(root / "parts")
    save_method_data(root / "data")
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> Callable[[str, str], str]:
    """Return a function that trains a method once, on one process and on two of either kind.

    In bfloat16 also on one process in float32.
    """

    def on_one(method: str, dtype: str) -> str:
        name = f"{method}-{dtype}"
        if not (root / f"{name}.yaml").is_file():
            save_recipe(root, name, method_recipe(method, root / "parts", dtype=dtype))
            recipe = load_recipe(root / f"{name}.yaml")
            train(recipe, root / f"{name}-single", data_dir=root / "data")
        return name

    def once(method: str, dtype: str) -> str:
        on_one(method, "float32")
        name = on_one(method, dtype)
        if not (root / f"{name}-{KINDS[0]}").is_dir():
            on_two_ranks(SCRIPT, root, *[f"{name}-{kind}" for kind in KINDS])
        return name

    return once


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method, stage", STAGES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_processes_train_as_one_and_one_goes_on(
    trained: Callable[[str, str], str], root: Path, method: str, stage: str, dtype: str, kind: str
) -> None:
    name = trained(method, dtype)
    assert_equal(root / f"{name}-{kind}", root / f"{name}-single", stage, dtype, kind)
    again = repeat_last_step(root, f"{name}-{kind}", stage)
    assert_equal(again, root / f"{name}-single", stage, dtype, kind)


@pytest.mark.long
def test_a_process_without_any_image_takes_part_in_detection(root: Path) -> None:
    """One marked image and one text make a batch: on two processes one of them sees no image.

    At one sample each the process without image must meet the other in the objective, and whether
    it has an image or not must not change the mean.
    """
    words = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A square."}]
    (root / "data" / "text.json").write_text(json.dumps([{"id": "t", "conversations": words}]))
    marked = json.loads((root / "data" / "instances.json").read_text())
    marked = {**marked, "images": marked["images"][:1], "annotations": marked["annotations"][:1]}
    (root / "data" / "one.json").write_text(json.dumps(marked))
    data = method_recipe("mr-mllm", root / "parts")
    refine = {**data["stages"][-1], "data": [{"path": "one.json"}, {"path": "text.json"}]}
    data["training"]["per_device_train_batch_size"] = 2
    save_recipe(root, "text-float32", {**data, "stages": [refine]})
    train(
        load_recipe(root / "text-float32.yaml"),
        root / "text-float32-single",
        data_dir=root / "data",
    )
    on_two_ranks(SCRIPT, root, *[f"text-float32-{kind}" for kind in KINDS])
    for kind in KINDS:
        assert_equal(
            root / f"text-float32-{kind}", root / "text-float32-single", "refine", "float32", kind
        )
