"""Layouts: a scene as a table of words, the second form in which the language model reads scenes.

A layout is a board of 8 x 8 cells named as in chess, "a1" to "h8". Where an image would put its
visual tokens, each cell puts one vector: the sum of the embeddings of its two coordinate letters
and of the words for every object in it, each weighted with the share of the cell that the object
covers; what is left is the padding token's. No pixel is in it, but it has the form of visual
tokens: a reader of layouts only needs a projector that says the same about an image. How words are
mixed and what is left out is ours. Shapes: N cells, V vocabulary.
"""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.outlines import outline
from manyeyes.world.scene import Scene

GRID = 8
CELLS = GRID * GRID

NAMED_SHARE = 0.7
"""Share of layouts that say where a cell is; in the others its place in the row has to do."""

LEAST_KEPT = 0.4
"""A layout draws one share between this and 1: so many words of an object stand in each cell."""


def mix_words(
    scene: Scene, rng: Random, tokenizer: PreTrainedTokenizerBase, *, clean: bool = False
) -> Tensor:
    """Return ``[N, V]``: the weight of every token in every cell, row by row.

    A ``clean`` layout names every cell and leaves no word out.
    """
    shares = cell_shares(scene)
    mixture = np.zeros((CELLS, len(tokenizer)), np.float32)
    mixture[:, tokenizer.pad_token_id] = 1.0 - shares.sum(axis=1)
    if clean or rng.random() < NAMED_SHARE:
        for cell in range(CELLS):
            place = (chr(ord("a") + cell // GRID), str(1 + cell % GRID))
            for letter in place:
                mixture[cell, _tokens(tokenizer, letter)] += 1.0
    draws = np.random.default_rng(rng.getrandbits(32))
    kept = 1.0 if clean else rng.uniform(LEAST_KEPT, 1.0)
    for position, item in enumerate(scene.objects):
        for name in ATTRIBUTES:
            stays = draws.random(CELLS) < kept
            for token in _tokens(tokenizer, f" {getattr(item, name)}"):
                mixture[:, token] += shares[:, position] * stays
    return torch.from_numpy(mixture)


def cell_shares(scene: Scene) -> NDArray[np.float32]:
    """Return ``[N, objects]``: the share of each cell that each object visibly covers."""
    front = np.full((scene.height, scene.width), -1)
    for position, item in enumerate(scene.objects):
        r = item.radius
        window = front[item.y - r : item.y + r + 1, item.x - r : item.x + r + 1]
        window[outline(item.shape, r)] = position
    rows = np.arange(scene.height) * GRID // scene.height
    columns = np.arange(scene.width) * GRID // scene.width
    cells = rows[:, None] * GRID + columns[None, :]
    shares = np.zeros((CELLS, len(scene.objects)), np.float32)
    seen = front >= 0
    np.add.at(shares, (cells[seen], front[seen]), 1.0)
    return shares / np.bincount(cells.ravel(), minlength=CELLS).astype(np.float32)[:, None]


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
