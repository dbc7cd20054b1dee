"""Starting rows of the coordinate tokens, and of tokens that an earlier model already knows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from manyeyes.errors import CheckpointError
from manyeyes.world.tokenizer import COORDINATES

WAVES = 8
"""Coordinates start as sums of so many cosines over the picture's side, the slowest first."""


@torch.no_grad()
def start_coordinates(
    table_VD: Tensor, tokenizer: PreTrainedTokenizerBase, generator: torch.Generator
) -> None:
    """Write starting rows for ``COORDINATES`` into an embedding table, in place.

    Rows of near coordinates are alike, as their places are; their size is that of the other rows.
    """
    places = torch.linspace(0.0, 1.0, len(COORDINATES))[:, None]
    waves = torch.arange(WAVES)[None, :]
    along = torch.cos(math.pi * waves * places) / (1 + waves / 2)
    rows = along @ torch.randn(WAVES, table_VD.shape[1], generator=generator)
    rows *= table_VD.square().mean().sqrt() / rows.square().mean().sqrt()
    ids = tokenizer.convert_tokens_to_ids(list(COORDINATES))
    table_VD[ids] = rows.to(table_VD.dtype)


@torch.no_grad()
def start_from(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    earlier: Any,
    earlier_tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Give ``network`` the weights of an ``earlier`` model, in place.

    Rows of the embedding follow the text of their tokens; tokens that the earlier model lacks keep
    the rows they have, brought to the size of the others.

    Raises:
        CheckpointError: the models differ in more than their vocabulary.
    """
    table: nn.Parameter = network.get_input_embeddings().weight
    old: nn.Parameter = earlier.get_input_embeddings().weight
    found = dict(earlier.named_parameters())
    for name, weight in network.named_parameters():
        if weight is table:
            continue
        if name not in found or found[name].shape != weight.shape:
            raise CheckpointError(f"the model to start from has another form: {name} does not fit")
        weight.copy_(found[name])
    known = earlier_tokenizer.get_vocab()
    shared = [(row, known[text]) for text, row in tokenizer.get_vocab().items() if text in known]
    table.mul_(old.square().mean().sqrt() / table.square().mean().sqrt())
    table[[row for row, _ in shared]] = old[[row for _, row in shared]].to(table.dtype)
