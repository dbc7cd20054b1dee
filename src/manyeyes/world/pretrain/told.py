"""What an arm is told: for every cell of a picture, what the language model reads there.

    tokens   the vector of the cell's layout; with its position, where the bridge adds none
    prompts  what the adapted layers of the language model hold at the cell while it reads the
             layout: the mean, over these layers, of their normalised input

Source: ours. Shapes: B pictures, N cells, H language-model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manyeyes.errors import UsageError
from manyeyes.layers.grid_positions import visual_positions
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.records import VisualEvidence
from manyeyes.world.pretrain.language.layouts import CELLS, GRID, LAYOUT_START


def check_arm(network: ManyEyesForConditionalGeneration, recipe: str) -> None:
    """Raise ``UsageError`` unless the arm's tokens or prompts can stand for the cells of a layout.

    They can if there are as many, or if the first and the last so many are two branches.
    """
    plan = network.fusion.plan
    count = plan.prompts or plan.tokens
    if count != CELLS and (plan.prompts or count < 2 * CELLS):
        raise UsageError(
            f"{recipe}: a start is made for {CELLS} visual tokens or prompts, one a cell of a "
            f"layout, or two branches of so many; this arm has {count}"
        )


def boards(network: ManyEyesForConditionalGeneration, evidence: VisualEvidence) -> list[Tensor]:
    """Return what stands for the cells, one ``[B, N, H]`` for every branch."""
    if evidence.prompts is not None:
        return [evidence.prompts[:, 0]]
    tokens: Any = network.bridge.mixed(evidence.tokens)
    return [tokens] if tokens.shape[1] == CELLS else [tokens[:, :CELLS], tokens[:, -CELLS:]]


def goals(network: ManyEyesForConditionalGeneration, layouts_BNH: Tensor) -> Tensor:
    """Return what every board shall say of pictures with these clean layouts, ``[B, N, H]``."""
    plan = network.fusion.plan
    if plan.grid is not None:
        return layouts_BNH
    table_VH: Any = network.get_input_embeddings().weight
    placed_BNH = layouts_BNH + visual_positions(table_VH, GRID, GRID)
    return _held(network, placed_BNH) if plan.prompts else placed_BNH


def _held(network: Any, placed_BNH: Tensor) -> Tensor:
    """What the adapted layers hold where the language model reads these cells."""
    language = network.language_model.model
    table_VH = network.get_input_embeddings().weight
    before = table_VH.mean(dim=0).expand(len(placed_BNH), LAYOUT_START + 1, -1)
    states = language(
        inputs_embeds=torch.cat([before, placed_BNH], dim=1), output_hidden_states=True
    ).hidden_states
    held = [language.layers[n].input_layernorm(states[n]) for n in network.bridge.layers]
    return torch.stack(held).mean(dim=0)[:, -CELLS:]
