"""DeepSeek-VL's hybrid: parity with loops and with the released modules, places, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DeepseekVLHybridConfig
from transformers.models.deepseek_vl_hybrid import modeling_deepseek_vl_hybrid as released

from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.deepseek_hybrid import DeepSeekHybridFusion
from manyeyes.layers.patches import merge_patches
from manyeyes.records import GridFeatures

SHAPES = {"sam": GridShape(3, (5, 5), (1,)), "siglip": GridShape(4, (2, 2), (6,))}


def build(
    shapes: dict[str, GridShape] = SHAPES, out_width: int = 6, **options: Any
) -> DeepSeekHybridFusion:
    torch.manual_seed(0)
    cls, parsed = parse_fusion({"name": "deepseek_hybrid", **options})
    cls.check(parsed, shapes)
    make: Any = cls
    fusion = make(parsed, shapes, out_width)
    assert isinstance(fusion, DeepSeekHybridFusion)
    return fusion


def bundle(shapes: dict[str, GridShape] = SHAPES) -> dict[str, GridFeatures]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: GridFeatures(
            (torch.randn(2, shape.num_patches, shape.width, generator=generator),),
            shape.level_indices,
            shape.grid,
        )
        for name, shape in shapes.items()
    }


def shares(place: float, count: int) -> list[float]:
    """What each of ``count`` points weighs at a place between two of them."""
    return [max(0.0, 1 - abs(place - point)) for point in range(count)]


def slow_resize(board: Tensor, size: int) -> Tensor:
    """Bilinear ``[C, r, c]`` → ``[C, size, size]``, centre to centre, edges repeated."""
    channels, rows, columns = board.shape
    out = torch.zeros(channels, size, size, dtype=board.dtype)
    for i in range(size):
        for j in range(size):
            y = min(max((i + 0.5) * rows / size - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / size - 0.5, 0), columns - 1)
            for row, share_y in enumerate(shares(y, rows)):
                for column, share_x in enumerate(shares(x, columns)):
                    out[:, i, j] += share_y * share_x * board[:, row, column]
    return out


def slow_conv(weight: Tensor, board: Tensor) -> Tensor:
    size = board.shape[1] // 2
    out = torch.zeros(weight.shape[0], size, size, dtype=board.dtype)
    for i in range(size):
        for j in range(size):
            for down in range(3):
                for across in range(3):
                    row, column = 2 * i + down - 1, 2 * j + across - 1
                    if 0 <= row < 2 * size and 0 <= column < 2 * size:
                        out[:, i, j] += weight[:, :, down, across] @ board[:, row, column]
    return out


def slow(fusion: Any, features: dict[str, GridFeatures], image: int, factor: int) -> Tensor:
    board = features["sam"].levels[0][image].double().T.reshape(3, 5, 5)
    board = slow_resize(board, 8)
    for conv in fusion.shrink:
        board = slow_conv(conv.weight.double(), board)
    details = board.reshape(12, 4).T
    out = []
    meaning = features["siglip"].levels[0][image].double()
    folded = [merge_patches(x[None], (2, 2), factor)[0] for x in (details, meaning)]
    for detail, sense in zip(*folded, strict=True):
        high = fusion.high_proj.weight.double() @ detail + fusion.high_proj.bias.double()
        low = fusion.low_proj.weight.double() @ sense + fusion.low_proj.bias.double()
        joined = torch.cat([high, low])
        joined = 0.5 * joined * (1 + torch.erf(joined / math.sqrt(2)))
        last = fusion.projector[1]
        out.append(last.weight.double() @ joined + last.bias.double())
    return torch.stack(out)


@torch.no_grad()
@pytest.mark.parametrize("factor", [1, 2])
def test_equals_a_slow_reference(factor: int) -> None:
    fusion, features = build(merge_patches=factor), bundle()
    found = fusion(features).tokens
    assert found.shape == (2, 4 // factor**2, 6)
    assert fusion.plan.grid == (2 // factor, 2 // factor)
    for image in range(2):
        expected = slow(fusion, features, image, factor)
        torch.testing.assert_close(found[image].double(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_equals_the_modules_of_the_released_model() -> None:
    shapes = {"siglip": GridShape(8, (3, 3), (6,)), "sam": GridShape(4, (8, 8), (1,))}
    fusion = build(shapes, 12, high="sam")
    heads = {"num_attention_heads": 2}
    config = DeepseekVLHybridConfig(
        text_config={"model_type": "llama", "hidden_size": 12, **heads},
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 8, **heads},
        high_res_vision_config={"model_type": "sam_vision_model", "output_channels": 4},
    )
    shrink = released.DeepseekVLSamVisionProj(config.high_res_vision_config, output_size=3)
    aligner = released.DeepseekVLHybridAligner(config)
    for number, conv in enumerate(fusion.shrink):
        getattr(shrink, f"conv{number + 1}").load_state_dict(conv.state_dict())
    aligner.vision_proj.load_state_dict(fusion.low_proj.state_dict())
    aligner.high_res_vision_proj.load_state_dict(fusion.high_proj.state_dict())
    aligner.proj.load_state_dict(fusion.projector[1].state_dict())
    features = bundle(shapes)
    board = features["sam"].levels[0].transpose(1, 2).reshape(2, 4, 8, 8)
    details = shrink(board).flatten(2).transpose(1, 2)
    expected = aligner(features["siglip"].levels[0], details)
    torch.testing.assert_close(fusion(features).tokens, expected, rtol=1e-4, atol=1e-5)


def test_parameters_at_real_size_by_hand() -> None:
    shapes = {"sam": GridShape(256, (64, 64), (1,)), "siglip": GridShape(1024, (24, 24), (24,))}
    cls, options = parse_fusion({"name": "deepseek_hybrid"})
    make: Any = cls
    with torch.device("meta"):
        fusion = make(options, shapes, 4096)
    assert {n: sum(p.numel() for p in m.parameters()) for n, m in fusion.named_children()} == {
        "shrink": 9 * (256 * 512 + 512 * 1024),
        "high_proj": 1024 * 2048 + 2048,
        "low_proj": 1024 * 2048 + 2048,
        "projector": 4096 * 4096 + 4096,
    }
    assert fusion.plan.tokens == 576


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ({"sam": SHAPES["sam"]}, {}, "takes two encoders.*got sam"),
        ({**SHAPES, "clip": GridShape(4, (2, 2), (3,))}, {}, "got sam, siglip, clip"),
        ({**SHAPES, "siglip": GridShape(4, (2, 2), (5, 6))}, {}, "takes one level of 'siglip'"),
        (SHAPES, {"high": "sem"}, "no encoder 'sem'.*did you mean 'sam'"),
        (SHAPES, {"merge_patches": 3}, "does not divide the grid 2x2"),
    ],
)
def test_what_does_not_suit_is_named(
    shapes: dict[str, GridShape], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PartError, match=message):
        build(shapes, **options)


def test_folds_are_whole_numbers() -> None:
    with pytest.raises(RecipeError, match=r"merge_patches: 0 is not a whole number"):
        build(merge_patches=0)
