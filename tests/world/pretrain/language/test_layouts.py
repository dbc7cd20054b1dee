"""Layouts say what is where, in the tokenizer's words, and nothing that is not in the scene."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from manyeyes.world.pretrain.language.documents import document_scene
from manyeyes.world.pretrain.language.layouts import (
    CELLS,
    DOUBTFUL_SHARE,
    GRID,
    LEAST_KEPT,
    MOST_SPILL,
    cell_shares,
    mix_words,
)
from manyeyes.world.render import object_mask
from manyeyes.world.scene import MARKS


@pytest.mark.parametrize("index", range(5))
def test_shares_are_the_visible_pixels_of_each_cell(index: int) -> None:
    """Against counting pixels one by one, later objects in front."""
    scene = document_scene("train", index, 0)
    shares = cell_shares(scene)
    masks = [object_mask(scene, position) for position in range(len(scene.objects))]
    side = scene.width // GRID
    expected = np.zeros_like(shares)
    for y in range(scene.height):
        for x in range(scene.width):
            covering = [i for i, mask in enumerate(masks) if mask[y, x]]
            if covering:
                expected[(y // side) * GRID + x // side, covering[-1]] += 1 / side**2
    assert np.allclose(shares, expected, atol=1e-6)
    assert [round(s * side**2) for s in shares.sum(axis=0)] == [o.visible for o in scene.objects]


def test_a_clean_layout_says_each_object_by_the_share_it_covers(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    scene = document_scene("train", 3, 0)
    shares, mixture = cell_shares(scene), mix_words(scene, Random(0), tokenizer, clean=True)
    expected = torch.zeros(CELLS, len(tokenizer))
    expected[:, int(tokenizer.pad_token_id)] = torch.from_numpy(1 - shares.sum(axis=1))
    for position, item in enumerate(scene.objects):
        for value in (item.size, item.color, item.texture, item.shape, item.mark):
            for token in tokenizer(f" {value}", add_special_tokens=False)["input_ids"]:
                expected[:, token] += torch.from_numpy(shares[:, position])
    torch.testing.assert_close(mixture, expected)


def test_blur_takes_words_away_spreads_and_doubts(tokenizer: PreTrainedTokenizerFast) -> None:
    """Measured over many layouts of one scene, against the shares that are drawn from."""
    scene = document_scene("train", 3, 0)
    item, shares = scene.objects[0], cell_shares(scene)
    assert [other.mark for other in scene.objects].count(item.mark) == 1
    (token,) = tokenizer(f" {item.mark}", add_special_tokens=False)["input_ids"]
    layouts = torch.stack([mix_words(scene, Random(seed), tokenizer) for seed in range(400)])
    said, covered = layouts[:, :, token], torch.from_numpy(shares[:, 0]) > 0
    kept = float((said[:, covered] > 0).float().mean())
    assert abs(kept - (1 + LEAST_KEPT) / 2) < 0.05
    filled = torch.from_numpy(shares.sum(axis=1)) > 0
    beside = _beside(filled)
    pad = int(tokenizer.pad_token_id)
    objects = 1.0 - layouts[:, :, pad]
    assert float(objects[:, beside].amax()) > 0 and not objects[:, ~(filled | beside)].any()
    one_neighbour = shares[:, 0][filled].max() * MOST_SPILL
    assert float(objects[:, beside].amax()) <= 4 * one_neighbour + 1e-6
    others = [tokenizer(f" {m}", add_special_tokens=False)["input_ids"][0] for m in MARKS]
    wrong = (
        layouts[:, covered][:, :, [t for t in others if t != token]].sum()
        / layouts[:, covered][:, :, others].sum()
    )
    assert 0 < float(wrong) < DOUBTFUL_SHARE


def _beside(cells: torch.Tensor) -> torch.Tensor:
    """Cells beside those given, themselves not among them."""
    board = cells.view(GRID, GRID)
    near = torch.zeros_like(board)
    near[1:] |= board[:-1]
    near[:-1] |= board[1:]
    near[:, 1:] |= board[:, :-1]
    near[:, :-1] |= board[:, 1:]
    return near.flatten() & ~cells
