"""Every stage of the four methods on two CPU processes, DDP and FSDP2, against one process.

Two steps each, saved after both; the second step is then repeated on one process from the two
processes' first checkpoint. The recipes hold no dropout, so nothing is random but masks and
negatives, which are drawn for the joined batch.

Sums come in another order on two ranks. Adam turns a gradient that is only rounding, such as that
of a key's bias, into steps of full size in a random direction; the recipes here have an epsilon of
1e-3, far above rounding, so that a weight moves as its gradient does. In float32 losses may differ
by ``LOSS`` and a weight by ``WEIGHT``. In bfloat16 rounding itself moves losses and weights, and
how far is measured: losses, and what the second step changes, are compared with those of one
process in float32. Two processes may be ``ROUNDING`` times as far from them as one process in
bfloat16 is, or ``LOSS``, or ``SHARE`` of the step's size. FSDP2 also gathers weights, and keeps the
states between layers, in bfloat16.
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
WEIGHT = 1e-5
"""Absolute; a step moves a weight by up to the learning rate, 1e-3."""
ROUNDING = 2.0
"""Two runs that round independently are sqrt(2) apart where each is 1 from the exact one."""
SHARE = {"ddp": 0.02, "fsdp": 0.2}
"""Of the Euclidean length of the step, over all weights."""


def save_recipe(root: Path, name: str, data: dict[str, Any]) -> None:
    data["training"]["adam_epsilon"] = 1e-3
    write_recipe(root / f"{name}.yaml", data)


def assert_equal(found: Path, single: Path, stage: str, dtype: str, kind: str) -> None:
    """Compare losses and weights of a stage of two runs; print how far they are apart."""
    exact = Path(str(single).replace(dtype, "float32"))
    loss, alone = (losses_apart(run / stage, exact / stage) for run in (found, single))
    most_loss = max(ROUNDING * alone, LOSS[dtype])
    if dtype == "float32":
        last, one = (run / stage / "checkpoint-2" for run in (found, single))
        weight, most = largest_difference(last, one), WEIGHT
    else:
        step = last_step(exact / stage)
        weight, alone = (
            float((last_step(run / stage) - step).norm() / step.norm()) for run in (found, single)
        )
        most = max(ROUNDING * alone, SHARE[kind])
    told = f"loss {loss:.1e} of {most_loss:.1e}, weight {weight:.1e} of {most:.1e}"
    print(f"{found.name} {stage}: {told}")
    assert loss < most_loss
    assert weight < most


def losses_apart(stage: Path, other: Path) -> float:
    """Return the largest relative difference of the two steps' losses."""
    own, others = losses(stage), losses(other)
    assert len(own) == len(others) == 2
    return max(abs(a - b) / abs(b) for a, b in zip(own, others, strict=True))


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
