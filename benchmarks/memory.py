"""What `manyeyes check` says of a training step's memory, beside what the step really holds.

Recipes at the widths they have, but with few blocks and small batches, random weights; each trains
two steps under the stage's trainer in a process of its own. Measured is the allocator's highest
sum in the second step, on top of weights and optimizer states. Beside it stands how much the
resident memory of the process grew, in which kernels' own memory and unused heap are, too.

    python benchmarks/memory.py [--quick] [--only NAME ...] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from memory_cases import CASES, QUICK, Case, small_recipe
from packing import training
from peaks import held_bytes, last_step_peak, tensors_in
from rich.console import Console
from rich.table import Table
from timing import machine
from torch import Tensor
from torch.utils.data import Dataset

from manyeyes.data.sampler import ResumableSampler
from manyeyes.layers.attention.packed import pack_attention
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.recipes import Recipe, model_config
from manyeyes.study.costs.batch import assumed_batch
from manyeyes.study.costs.memory import Counting
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.training.kernels import set_attention
from manyeyes.training.loader import EndlessOrder
from manyeyes.training.lora import prepare_lora
from manyeyes.training.packing import packs
from manyeyes.training.trainable import assign, freeze
from manyeyes.training.trainer import StageData, StageTrainer

MIB = 2**20
STEPS = 2


class Numbers(Dataset[int]):
    """As many rows as a run draws; each is its own number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def said(recipe: Recipe) -> int:
    """Bytes of the step's highest moment by `manyeyes check`."""
    (stage,) = inspect_recipe(recipe).stages
    return stage.memory[recipe.dtype].total


def build(recipe: Recipe) -> StageTrainer:
    """The stage's trainer over one batch of random pixels or features, again and again."""
    (stage,) = recipe.stages
    config = model_config(recipe.model)
    model = ManyEyesForConditionalGeneration(config)
    size = int(config.text_config.vocab_size)
    config.image_tokens = [size, size + 1, size + 2]
    prepare_lora(model, stage.train)
    assignment = assign(model, stage.train)
    freeze(model, assignment)
    held = Counting(recipe, stage, model, assignment, {}).dtype
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(held(name, tensor))
    packing, batch = packs(stage, config), int(stage.training["per_device_train_batch_size"])
    half = torch.bfloat16 if stage.training.get("bf16") else torch.float32
    inputs = assumed_batch(model, stage, batch, _random, packing=packing, stored=half)
    order = EndlessOrder(ResumableSampler(STEPS * batch, fingerprint="", shuffle=False))
    data = StageData(Numbers(STEPS * batch), order, partial(_same, inputs), str)
    trainer = StageTrainer(
        model, _arguments(stage.training), data, assignment=assignment, objectives=stage.objectives
    )
    set_attention(model, recipe)
    if packing:
        pack_attention(model.language_model)
    return trainer


def _random(shape: Any, dtype: torch.dtype) -> Tensor:
    return torch.randn(tuple(shape), dtype=dtype)


def _same(inputs: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    return dict(inputs)


def _arguments(fields: Mapping[str, Any]) -> Any:
    folder = Path(tempfile.mkdtemp())
    args = training(folder, STEPS - 1, int(fields["per_device_train_batch_size"]))
    known = ("bf16", "optim", "activation_checkpointing", "gradient_accumulation_steps")
    for name in known:
        if name in fields:
            setattr(args, name, fields[name])
    return args


def measured(recipe: Recipe) -> dict[str, int]:
    """Bytes of the second step's peak, inputs included, and growth of the resident memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    trainer = build(recipe)
    inputs = held_bytes(tensors_in(trainer.data.collate([])))
    gc.collect()
    peak = last_step_peak(trainer) + inputs
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"measured": peak, "resident": after - before}


def measure(name: str, case: Case) -> dict[str, Any]:
    """All figures of one case, in this process."""
    recipe = small_recipe(case)
    found = measured(recipe)
    return {"case": name, "said": said(recipe), **found}


def in_process(name: str, *, quick: bool) -> dict[str, Any]:
    """The figures of one case from a process of its own."""
    command = [sys.executable, __file__, "--one", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(rows: list[dict[str, Any]]) -> None:
    """Print the figures as a table."""
    table = Table(title="peak of a training step, MiB", title_justify="left")
    for column in ("recipe", "check", "measured", "ratio", "resident memory grew by"):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for row in rows:
        sizes = [f"{row[key] / MIB:,.0f}" for key in ("said", "measured", "resident")]
        table.add_row(row["case"], *sizes[:2], f"{row['said'] / row['measured']:.3f}", sizes[2])
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smallest parts: checks that it runs")
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = QUICK if options.quick else CASES
    if options.one:
        print(json.dumps(measure(options.one, cases[options.one])))
        return
    rows = []
    for name in options.only or cases:
        rows.append(in_process(name, quick=options.quick))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"cases": rows, "environment": machine()}))
    else:
        show(rows)


if __name__ == "__main__":
    main()
