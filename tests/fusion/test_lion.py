"""LION's vision aggregator against its equation, and what it reads (LION §1.3, §10)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lion_parts import stir
from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.records import GridFeatures

WIDTH, HEADS = 16, 4
SHAPE = GridShape(WIDTH, (2, 2), (19, 29, 39), num_prefix=1)
OPTIONS: dict[str, Any] = {
    "name": "lion",
    "visual_input": "aggregator",
    "aggregator_heads": HEADS,
    "aggregator_ffn": 24,
}


def made(**changes: Any) -> Any:
    torch.manual_seed(0)
    cls, options = parse_fusion({**OPTIONS, **changes})
    cls.check(options, {"eva": SHAPE})
    build: Any = cls
    return build(options, {"eva": SHAPE}, 8).eval()


def drawn(seed: int = 1) -> dict[int, Tensor]:
    """Class token and patches of each level."""
    generator = torch.Generator().manual_seed(seed)
    return {level: torch.randn(3, 5, WIDTH, generator=generator) for level in (19, 29, 39)}


def bundle(states: dict[int, Tensor]) -> dict[str, GridFeatures]:
    levels = tuple(states[level][:, 1:] for level in SHAPE.level_indices)
    prefix = tuple(states[level][:, :1] for level in SHAPE.level_indices)
    return {"eva": GridFeatures(levels, SHAPE.level_indices, SHAPE.grid, prefix)}


def layer_norm(x: Tensor, norm: Any) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    out: Tensor = (x - mean) / (variance + 1e-12).sqrt() * norm.weight + norm.bias
    return out


def attention(part: Any, x: Tensor, y: Tensor) -> Tensor:
    """Softmax attention of x over all of y, head by head."""
    heads = []
    size = WIDTH // HEADS
    for head in range(HEADS):
        rows = slice(head * size, (head + 1) * size)
        query, key, value = (
            z @ linear.weight[rows].T + linear.bias[rows]
            for z, linear in ((x, part.query), (y, part.key), (y, part.value))
        )
        scores = (query @ key.transpose(1, 2) / size**0.5).softmax(-1)
        heads.append(scores @ value)
    out: Tensor = part.out(torch.cat(heads, dim=-1))
    return out


def slow_block(block: Any, x: Tensor, y: Tensor) -> Tensor:
    x = layer_norm(x + attention(block.own.change, x, x), block.own.norm)
    x = layer_norm(x + attention(block.cross.change, x, y), block.cross.norm)
    first, _, last = block.ffn.change
    inner = x @ first.weight.T + first.bias
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    return layer_norm(x + inner @ last.weight.T + last.bias, block.ffn.norm)


@torch.no_grad()
def test_equals_the_equation() -> None:
    fusion, states = made(), drawn()
    stir(fusion)
    found = fusion(bundle(states)).tokens
    first, second = fusion.aggregator
    x = slow_block(second, slow_block(first, states[39], states[29]), states[19])
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    norm = fusion.aggregator_norm
    x = (x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias
    one, _, two = fusion.aggregator_proj
    expected = F.gelu(x @ one.weight.T + one.bias) @ two.weight.T + two.bias
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_lion_check_02_levels_have_their_roles() -> None:
    fusion, states = made(), drawn()
    assert torch.equal(
        made(aggregator_levels=[39, 29, 19])(bundle(states)).tokens, fusion(bundle(states)).tokens
    )
    stir(fusion)
    before = fusion(bundle(states)).tokens
    swapped = {19: states[29], 29: states[19], 39: states[39]}
    assert not torch.allclose(fusion(bundle(swapped)).tokens, before, atol=1e-3)
    other = made(aggregator_levels=[39, 19, 29])
    other.load_state_dict(fusion.state_dict())
    torch.testing.assert_close(other(bundle(swapped)).tokens, before)


@torch.no_grad()
def test_lion_check_09_fresh_is_a_norm_and_attention_is_not_causal() -> None:
    fusion, states = made(), drawn()
    plain = F.layer_norm(states[39], (WIDTH,))
    assert float((fusion.aggregate(bundle(states)) - plain).abs().max()) < 1e-4
    others = {**drawn(seed=9), 39: states[39]}
    torch.testing.assert_close(fusion.aggregate(bundle(others)), fusion.aggregate(bundle(states)))
    stir(fusion)
    before = fusion.aggregate(bundle(states))
    last = {level: state.clone() for level, state in states.items()}
    last[39][:, -1] += 1.0
    assert not torch.allclose(fusion.aggregate(bundle(last))[:, 0], before[:, 0], atol=1e-4)
    shallow = {**states, 19: states[19] + 1.0 + states[19].sin()}
    assert not torch.allclose(fusion.aggregate(bundle(shallow)), before, atol=1e-4)


def test_fresh_cross_attention_gets_no_gradient_in_its_first_step() -> None:
    fusion, states = made(), drawn()
    fusion(bundle(states)).tokens.square().sum().backward()
    cross = fusion.aggregator[0].cross.change
    assert float(cross.key.weight.grad.abs().max()) == 0.0
    assert float(cross.out.weight.grad.abs().max()) > 0.0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"visual_input": "both"}, RecipeError, r"visual_input: 'both' is not one of"),
        ({"aggregator_levels": [39, 30, 19]}, PartError, "needs level 30.*gives levels 19, 29, 39"),
        ({"aggregator_levels": [39]}, PartError, "needs a level to read besides the first"),
        ({"aggregator_heads": 0}, RecipeError, "aggregator_heads: 0 is not a whole number"),
        ({"aggregator_heads": 3}, PartError, "aggregator_heads: 3 heads do not divide"),
        ({"text": "caption"}, PartError, "train its Q-Former .* with fusion 'qformer'"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        made(**changes)
