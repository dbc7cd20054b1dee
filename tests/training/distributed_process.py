"""One rank of ``test_distributed``: several runs in one process group, started by torchrun.

    distributed_process.py ROOT

ROOT/recipe.yaml and ROOT/data are read; ROOT/single-align holds a run that one process began.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from manyeyes.recipes import load_recipe
from manyeyes.training import train

HALF = "training.per_device_train_batch_size=2"
"""Two ranks with half of the single process's micro-batch make the same global batch."""


def main(root: Path) -> None:
    torch.set_num_threads(1)
    disable_progress_bar()
    recipe, data = root / "recipe.yaml", root / "data"
    ddp = load_recipe(recipe, [HALF])
    train(ddp, root / "ddp", data_dir=data)
    train(ddp, root / "single-to-ddp", data_dir=data, stage="align", resume=True)
    fsdp = load_recipe(recipe, [HALF, "training.fsdp=true"])
    train(fsdp, root / "fsdp", data_dir=data)
    train(fsdp, root / "single-to-fsdp", data_dir=data, stage="align", resume=True)
    lora = load_recipe(root / "lora.yaml", [HALF, "training.fsdp=true"])
    train(lora, root / "lora-fsdp", data_dir=data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
