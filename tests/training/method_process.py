"""One rank of ``test_method_ranks``: runs of several recipes in one process group, by torchrun.

    method_process.py ROOT RUN ...

RUN is METHOD-DTYPE-KIND, KIND ddp or fsdp: ROOT/METHOD-DTYPE.yaml and ROOT/data are read,
ROOT/RUN is written. Two ranks with half of the single process's micro-batch make the same global
batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml
from transformers.utils.logging import disable_progress_bar

from manyeyes.recipes import load_recipe
from manyeyes.training import train

FSDP = {"ddp": "false", "fsdp": "true"}


def main(root: Path, runs: list[str]) -> None:
    torch.set_num_threads(1)
    disable_progress_bar()
    for run in runs:
        name, _, kind = run.rpartition("-")
        path = root / f"{name}.yaml"
        micro = yaml.safe_load(path.read_text())["training"]["per_device_train_batch_size"]
        half = f"training.per_device_train_batch_size={micro // 2}"
        recipe = load_recipe(path, [half, f"training.fsdp={FSDP[kind]}"])
        train(recipe, root / run, data_dir=root / "data")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
