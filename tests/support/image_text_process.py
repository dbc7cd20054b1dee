"""One rank of ``test_image_text_ranks``: the objectives on its share of a joined batch.

    image_text_process.py ROOT

Writes ROOT/rank-<r>.pt with the values of the objectives and the gradients averaged over ranks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import distributed

from image_text import build, bundle, text
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.fusion.image_text import CAPTION, CONTRAST, MATCH
from manyeyes.layers.bundles import choose_images
from manyeyes.losses import OBJECTIVES
from manyeyes.records import LOCAL_STATES, FusionText

PAIRS = 4
MAE = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def run(first: int, count: int) -> dict[str, torch.Tensor]:
    """Return losses, gradients and hidden patches for pairs ``first`` ... of the joined batch."""
    fusion = build("xformer", reconstruct=True)
    rows = torch.arange(first, first + count)
    whole = text(PAIRS)
    length = int(whole.mask[rows].sum(dim=1).max())  # ranks pad to their own longest text
    words = FusionText(whole.ids[rows, :length], whole.mask[rows, :length])
    images = choose_images(bundle(PAIRS, hidden=4), rows)
    torch.manual_seed(11)
    trace = fusion.intermediates(images, words, (*CONTRAST, *MATCH, *CAPTION))
    terms = {name: OBJECTIVES[name](trace) for name in ("itc", "itm", "itg")}
    terms["local"] = trace[LOCAL_STATES].square().mean()
    found = {}
    for name, term in terms.items():
        fusion.zero_grad()
        term.backward(retain_graph=True)
        found[f"loss.{name}"] = averaged(term.detach())
        for parameter, p in fusion.named_parameters():
            if p.grad is not None:
                found[f"{name}.{parameter}"] = averaged(p.grad)
    found["hidden"] = masks(rows)
    return found


def masks(rows: torch.Tensor) -> torch.Tensor:
    """Return the patches that a masked autoencoder hides from this rank's images."""
    spec = parse_encoder({"name": "mae", "family": "mae", "backbone": MAE, "mask_ratio": 0.5})
    torch.manual_seed(3)
    encoder = ENCODERS["mae"](spec, ENCODERS["mae"].read_config(spec))
    torch.manual_seed(5)
    masking = encoder(torch.zeros(len(rows), 3, 16, 16), training=True).masking
    assert masking is not None
    return masking.hidden


def averaged(value: torch.Tensor) -> torch.Tensor:
    """Average over ranks, as distributed training does with gradients."""
    value = value.clone()
    if distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()
    return value


def main(root: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    share = PAIRS // world
    torch.save(run(rank * share, share), root / f"rank-{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
