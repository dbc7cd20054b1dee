"""Options of the placeholder bridge that place visual tokens: positions and neighbours."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from manyeyes.bridge import Given, ImageTokenIds, parse_bridge
from manyeyes.bridge.placeholder import PlaceholderBridge
from manyeyes.errors import PartError, RecipeError
from manyeyes.layers.grid_positions import visual_positions

WIDTH = 16
LANGUAGE = LlamaConfig(vocab_size=20, hidden_size=WIDTH, num_attention_heads=2)
IDS = ImageTokenIds(20, 21, 22)


def bridge(given: Given, **options: object) -> PlaceholderBridge:
    cls, parsed = parse_bridge({"name": "placeholder", **options})
    cls.check(parsed, LANGUAGE, given)
    torch.manual_seed(0)
    built = cls(parsed, LANGUAGE, given)
    assert isinstance(built, PlaceholderBridge)
    return built


def test_positions_start_as_waves_on_a_grid_and_as_zeros_elsewhere() -> None:
    words = torch.randn(20, WIDTH)
    on_grid = bridge(Given(6, grid=(2, 3)), positions="learned")
    on_grid.start_from(words)
    assert torch.equal(on_grid.positions, visual_positions(words, 2, 3))
    queries = bridge(Given(6), positions="learned")
    queries.start_from(words)
    assert queries.positions.shape == (6, WIDTH) and not queries.positions.any()


def test_positions_are_added_to_every_image_and_to_nothing_else() -> None:
    built = bridge(Given(2, grid=(1, 2)), positions="learned", start_end=False)
    built.start_from(torch.randn(20, WIDTH))
    ids = torch.tensor([[1, 20, 20, 2], [3, 20, 20, 4]])
    words, tokens = torch.randn(2, 4, WIDTH), torch.randn(2, 2, WIDTH)
    found = built(words, ids, tokens, [1, 1], IDS)
    assert torch.equal(found[:, [0, 3]], words[:, [0, 3]])
    assert torch.equal(found[:, 1:3], tokens + built.positions)


def test_none_of_both_leaves_tokens_as_they_are() -> None:
    built = bridge(Given(6, grid=(2, 3)))
    tokens = torch.randn(2, 6, WIDTH)
    assert built.place(tokens) is tokens
    assert {name for name, _ in built.named_parameters()} == {"image_start", "image_end"}


def test_neighbours_see_the_square_around_a_token() -> None:
    built = bridge(Given(20, grid=(4, 5)), neighbours=3)
    tokens = torch.randn(1, 20, WIDTH, requires_grad=True)
    assert torch.equal(built.place(tokens), tokens), "it starts as the identity"
    torch.nn.init.normal_(built.mix.out.weight)
    centre = 1 * 5 + 2
    (gradient,) = torch.autograd.grad(built.place(tokens)[0, centre].sum(), tokens)
    seen = {int(i) for i in gradient[0].abs().sum(dim=1).nonzero()}
    assert seen == {row * 5 + column for row in range(3) for column in range(1, 4)}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"bridge\.neighbours.*odd"):
        bridge(Given(4, grid=(2, 2)), neighbours=2)
    with pytest.raises(PartError, match=r"neighbours.*grid"):
        bridge(Given(4), neighbours=3)
    with pytest.raises(RecipeError, match="positions"):
        bridge(Given(4), positions="waves")
