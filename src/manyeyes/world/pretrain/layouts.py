"""Layouts: a scene as a table of words, the second form in which the language model reads scenes.

A layout is a board of 8 x 8 cells named as in chess, "a1" to "h8". Where an image would put its
visual tokens, each cell puts one vector: the sum of the embeddings of its two coordinate letters
and of the words for every object in it, each weighted with the share of the cell that the object
covers; what is left is the padding token's. No pixel is in it, but it has the form of visual
tokens: a reader of layouts only needs a projector that says the same about an image. How words are
mixed and what is left out is ours. Shapes: L layouts, R rows of a batch that hold one, B rows, T
tokens, N cells, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.outlines import outline
from manyeyes.world.scene import Scene

GRID = 8
CELLS = GRID * GRID

NAMED_SHARE = 0.25
"""Share of layouts that say where a cell is. In the others its place in the row has to do, as in an
image whose encoder does not tell it."""

LEAST_KEPT = 0.4
"""A layout draws one share between this and 1: so many words of an object stand in each cell."""

LAYOUT_START = 2
"""Position of a layout's first cell: after the document's and the user's marker, as an image's."""

MOST_NOISE = 0.5
"""A layout draws its share of noise, as the ratio of standard deviations, between 0 and this."""


@dataclass(frozen=True)
class LayoutBatch:
    """The layouts of a batch of texts.

    ``words`` ``[L, N, V]``; ``noisy`` ``[L]`` is 0 for clean ones, else 1. ``rows`` ``[R]`` of the
    batch hold one, and ``sources`` ``[R]`` says which.
    """

    words: Tensor
    noisy: Tensor
    rows: Tensor
    sources: Tensor


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


def batch_layouts(owners: Sequence[tuple[Tensor | None, bool, int]]) -> LayoutBatch:
    """Collect the layouts of owners that take up one or several consecutive rows of a batch.

    An owner is (layout ``[N, V]`` or None, whether it is clean, its number of rows).
    """
    words: list[Tensor] = []
    noisy: list[float] = []
    rows: list[int] = []
    sources: list[int] = []
    row = 0
    for layout, clean, number in owners:
        if layout is not None:
            rows += range(row, row + number)
            sources += [len(words)] * number
            words.append(layout)
            noisy.append(0.0 if clean else 1.0)
        row += number
    stacked = torch.stack(words) if words else torch.empty(0, CELLS, 0)
    places = [torch.tensor(values, dtype=torch.long) for values in (rows, sources)]
    return LayoutBatch(stacked, torch.tensor(noisy), *places)


def embed_rows(
    table_VD: Tensor, ids_BT: Tensor, layouts: LayoutBatch, noise: torch.Generator | None = None
) -> Tensor:
    """Return ``[B, T, D]``: embedded ids, and embedded layouts in their places.

    ``noise`` adds noise to the cells, because no projector says exactly what words say.
    """
    embeds_BTD = functional.embedding(ids_BT, table_VD)
    if not len(layouts.rows):
        return embeds_BTD
    cells = layouts.words @ table_VD
    if noise is not None:
        level = torch.rand(len(cells), 1, 1, generator=noise) * MOST_NOISE * cells.detach().std()
        level = level * layouts.noisy[:, None, None]
        cells = cells + level * torch.randn(cells.shape, generator=noise)
    places = slice(LAYOUT_START, LAYOUT_START + cells.shape[1])
    embeds_BTD[layouts.rows, places] = cells[layouts.sources].to(embeds_BTD.dtype)
    return embeds_BTD


@cache
def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
