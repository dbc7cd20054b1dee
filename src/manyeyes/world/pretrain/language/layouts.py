"""Layouts: a scene as a table of words, the second form in which the language model reads scenes.

A layout is a board of 8 x 8 cells. It stands where an image stands, behind the same door: between
the two image markers, one vector a cell, and to each the position that the bridge adds to visual
tokens. A cell's vector is the sum of the embeddings of the words for every object in it, each
weighted with the share of the cell that the object covers; what is left is the padding token's. No
pixel is in it: a reader of layouts only needs a projector that says the same about an image.
Features say it less clearly, so most layouts are blurred: objects spill into cells beside them,
cells lose words, values are mixed with wrong ones, and noise is added. How, and how much, is ours.

Shapes: L layouts, R rows of a batch that hold one, B rows, T tokens, N cells, D width, V
vocabulary.
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

from manyeyes.layers.grid_positions import visual_positions
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.outlines import outline
from manyeyes.world.scene import Scene

GRID = 8
CELLS = GRID * GRID

LEAST_KEPT = 0.5
"""A layout draws one share between this and 1: so many words of an object stand in each cell."""

DOUBTFUL_SHARE = 0.3
"""Share of an object's values that a blurred layout mixes with a wrong one."""

MOST_DOUBT = 0.45
"""A doubtful value gives a share between 0 and this to the wrong one."""

MOST_SPILL = 0.06
"""A layout draws which share of a cell, between 0 and this, goes to each of the four beside it."""

LAYOUT_START = 2
"""Position of a layout: after the document's and the user's marker, as an image's."""

LAYOUT_LENGTH = CELLS + 2
"""Positions that a layout takes: its cells between the two image markers."""

MOST_NOISE = 0.5
"""A layout draws its share of noise, as the ratio of standard deviations, between 0 and this."""


@dataclass(frozen=True)
class LayoutBatch:
    """The layouts of a batch of texts.

    ``words`` ``[L, N, V]``; ``noisy`` ``[L]`` is 0 for clean ones, else 1. ``rows`` ``[L]`` of the
    batch hold them.
    """

    words: Tensor
    noisy: Tensor
    rows: Tensor


def mix_words(
    scene: Scene, rng: Random, tokenizer: PreTrainedTokenizerBase, *, clean: bool = False
) -> Tensor:
    """Return ``[N, V]``: the weight of every token in every cell, row by row.

    A ``clean`` layout is exact; any other is blurred.
    """
    draws = np.random.default_rng(rng.getrandbits(32))
    shares = cell_shares(scene)
    if not clean:
        shares = _spill(shares, draws.uniform(0.0, MOST_SPILL))
    mixture = np.zeros((CELLS, len(tokenizer)), np.float32)
    mixture[:, tokenizer.pad_token_id] = 1.0 - shares.sum(axis=1)
    kept = 1.0 if clean else draws.uniform(LEAST_KEPT, 1.0)
    for position, item in enumerate(scene.objects):
        for name in ATTRIBUTES:
            stays = shares[:, position] * (draws.random(CELLS) < kept)
            value = str(getattr(item, name))
            for word, weight in _told_value(name, value, draws, clean=clean):
                for token in _tokens(tokenizer, f" {word}"):
                    mixture[:, token] += weight * stays
    return torch.from_numpy(mixture)


def _told_value(
    name: str, value: str, draws: np.random.Generator, *, clean: bool
) -> list[tuple[str, float]]:
    """Return what a layout says of an attribute: its value, at times mixed with a wrong one."""
    if clean or draws.random() >= DOUBTFUL_SHARE:
        return [(value, 1.0)]
    others = [other for other in ATTRIBUTES[name] if other != value]
    doubt = draws.uniform(0.0, MOST_DOUBT)
    return [(value, 1.0 - doubt), (others[draws.integers(len(others))], doubt)]


def _spill(shares: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Move ``share`` of every cell's objects to each of the four cells beside it."""
    board = np.pad(shares.reshape(GRID, GRID, -1), ((1, 1), (1, 1), (0, 0)))
    beside = board[:-2, 1:-1] + board[2:, 1:-1] + board[1:-1, :-2] + board[1:-1, 2:]
    spilt = (1.0 - 4.0 * share) * board[1:-1, 1:-1] + share * beside
    return np.asarray(spilt.reshape(CELLS, -1), np.float32)


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


def batch_layouts(owners: Sequence[tuple[Tensor | None, bool]]) -> LayoutBatch:
    """Collect the layouts of the rows of a batch.

    An owner is (layout ``[N, V]`` or None, whether it is clean).
    """
    rows = [row for row, (layout, _) in enumerate(owners) if layout is not None]
    words = [layout for layout, _ in owners if layout is not None]
    noisy = [0.0 if owners[row][1] else 1.0 for row in rows]
    stacked = torch.stack(words) if words else torch.empty(0, CELLS, 0)
    return LayoutBatch(stacked, torch.tensor(noisy), torch.tensor(rows, dtype=torch.long))


def embed_rows(
    table_VD: Tensor, ids_BT: Tensor, layouts: LayoutBatch, noise: torch.Generator | None = None
) -> Tensor:
    """Return ``[B, T, D]``: embedded ids, and embedded layouts in their places.

    ``noise`` adds noise to the cells, because no projector says exactly what words say. Markers
    and positions are those that a bridge starts from (``bridge.placeholder``).
    """
    embeds_BTD = functional.embedding(ids_BT, table_VD)
    if not len(layouts.rows):
        return embeds_BTD
    cells = layouts.words @ table_VD
    if noise is not None:
        level = torch.rand(len(cells), 1, 1, generator=noise) * MOST_NOISE * cells.detach().std()
        level = level * layouts.noisy[:, None, None]
        cells = cells + level * torch.randn(cells.shape, generator=noise)
    cells = cells + visual_positions(table_VD.detach(), GRID, GRID)
    marker = table_VD.mean(dim=0).expand(len(cells), 1, -1)
    shown = torch.cat([marker, cells, marker], dim=1).to(embeds_BTD.dtype)
    places = slice(LAYOUT_START, LAYOUT_START + LAYOUT_LENGTH)
    embeds_BTD[layouts.rows, places] = shown
    return embeds_BTD


@cache
def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
