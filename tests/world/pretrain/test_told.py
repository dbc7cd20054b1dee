"""What arms are told: goals that the language model reads, for tokens, branches and prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manyeyes.layers.grid_positions import visual_positions
from manyeyes.records import VisualEvidence
from manyeyes.world.pretrain.arms import ARMS
from manyeyes.world.pretrain.language.layouts import CELLS, GRID
from manyeyes.world.pretrain.starts import StartObjective
from manyeyes.world.pretrain.told import boards, goals

pytestmark = pytest.mark.long

LAYOUTS = 0.1 * torch.randn(2, CELLS, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def objectives() -> dict[str, StartObjective]:
    return {name: StartObjective(ARMS[name], 0) for name in ("clip", "lion", "mr-mllm")}


@pytest.fixture(scope="module")
def networks(objectives: dict[str, StartObjective]) -> dict[str, Any]:
    return {name: objective.network.eval() for name, objective in objectives.items()}


def test_tokens_of_a_grid_say_the_layout_and_the_bridge_adds_places(networks: Any) -> None:
    assert torch.equal(goals(networks["clip"], LAYOUTS), LAYOUTS)


def test_tokens_of_queries_say_where_they_stand_too(networks: Any) -> None:
    network = networks["lion"]
    table = network.get_input_embeddings().weight
    places = visual_positions(table, GRID, GRID)
    torch.testing.assert_close(goals(network, LAYOUTS), LAYOUTS + places)


def test_two_branches_are_two_boards(networks: Any) -> None:
    """LION: 64 queries, then a class token, which stands for no cell, and 64 patches."""
    tokens = torch.arange(129.0)[None, :, None].expand(1, -1, 128)
    first, last = boards(networks["lion"], VisualEvidence(tokens=tokens))
    assert first[0, :, 0].tolist() == list(range(64))
    assert last[0, :, 0].tolist() == list(range(65, 129))


@torch.no_grad()
def test_prompts_say_what_adapted_layers_hold_while_a_layout_is_read(networks: Any) -> None:
    """What the key projections of these layers are given at the cells, caught as they read."""
    network = networks["mr-mllm"]
    language = network.language_model.model
    caught: list[torch.Tensor] = []
    hooks = [
        language.layers[n].self_attn.k_proj.register_forward_pre_hook(
            lambda _, given: caught.append(given[0][:, -CELLS:])
        )
        for n in network.bridge.layers
    ]
    found = goals(network, LAYOUTS)
    for hook in hooks:
        hook.remove()
    assert len(caught) == 4
    torch.testing.assert_close(found, torch.stack(caught).mean(dim=0))
    (board,) = boards(network, VisualEvidence(prompts=found[:, None]))
    assert torch.equal(board, found)


def test_a_fusion_that_reads_questions_is_told_with_those_of_other_pictures(
    objectives: dict[str, StartObjective], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = objectives["lion"]
    assert len({tuple(ids.tolist()) for ids in objective.asked_beside}) > 300
    first = objective.evidence(objective.pictures, [0]).tokens
    monkeypatch.setattr(objective, "asked_beside", objective.asked_beside[5:])
    assert not torch.equal(objective.evidence(objective.pictures, [0]).tokens, first)
