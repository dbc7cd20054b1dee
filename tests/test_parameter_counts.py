"""COMM's parameter counts at real size, on the meta device (comm.md of the paper's §1.7)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from manyeyes.encoders import ENCODERS, GridShape, parse_encoder
from manyeyes.fusion import parse_fusion

REAL = {
    "clip": GridShape(1024, (24, 24), tuple(range(1, 25))),
    "dinov2": GridShape(1024, (24, 24), tuple(range(19, 25))),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def fusion(width: int = 4096, **options: Any) -> Any:
    cls, parsed = parse_fusion({"name": "comm", **options})
    build: Any = cls
    with torch.device("meta"):
        return build(parsed, REAL, width)


def test_comm_check_14_modules() -> None:
    comm = fusion()
    assert count(comm.mergers["clip"].maps[0]) == 1_051_648
    assert count(comm.mergers["clip"]) == 25_239_576
    assert count(comm.mergers["dinov2"]) == 6_309_894
    assert count(comm.align["dinov2"]) == 8_393_728
    assert count(comm.projector) == 8_392_704
    assert count(fusion(5120).projector) == 10_490_880


@pytest.mark.parametrize(
    ("width", "options", "total"),
    [
        (4096, {}, 48_335_902),
        (5120, {}, 50_434_078),
        (4096, {"mlp_ratio": 8}, 56_728_606),
        (4096, {"mlp_blocks": 2}, 56_729_630),
    ],
)
def test_comm_check_14_all_new_modules(width: int, options: dict[str, Any], total: int) -> None:
    assert count(fusion(width, **options)) == total


@pytest.mark.parametrize(("kernel", "total"), [(3, 9_440_256), (1, 1_051_648)])
def test_convolution_with_batch_norm(kernel: int, total: int) -> None:
    comm = fusion(merge="conv_layerscale", conv_kernel=kernel)
    assert count(comm.mergers["clip"].maps[0]) == total


def test_comm_check_14_frozen_encoders() -> None:
    large: dict[str, Any] = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
    clip = {**large, "intermediate_size": 4096, "image_size": 336, "projection_dim": 768}
    dino = {**large, "image_size": 518}
    totals = {}
    for family, backbone in (("clip", clip), ("dinov2", dino)):
        spec = parse_encoder({"name": family, "family": family, "backbone": backbone})
        with torch.device("meta"):
            totals[family] = count(ENCODERS[family](spec, ENCODERS[family].read_config(spec)))
    assert totals == {"clip": 303_507_456, "dinov2": 304_368_640}
    assert sum(totals.values()) == 607_876_096
