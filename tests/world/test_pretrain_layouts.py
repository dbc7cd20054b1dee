"""Layouts say what is where, in the tokenizer's words, and nothing that is not in the scene."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from manyeyes.world.pretrain.documents import corpus, document_scene
from manyeyes.world.pretrain.layouts import CELLS, GRID, LEAST_KEPT, cell_shares, mix_words
from manyeyes.world.render import object_mask
from manyeyes.world.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(100, 0))


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


def test_cells_hold_their_names_and_the_words_of_their_objects(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyeyes.world.pretrain.layouts.NAMED_SHARE", 1.0)
    monkeypatch.setattr("manyeyes.world.pretrain.layouts.LEAST_KEPT", 1.0)
    scene = document_scene("train", 3, 0)
    shares, mixture = cell_shares(scene), mix_words(scene, Random(0), tokenizer)
    assert mixture.shape == (CELLS, len(tokenizer))
    empty = int(shares.sum(axis=1).argmin())
    named = {tokenizer.convert_ids_to_tokens(int(t)) for t in mixture[empty].nonzero()}
    assert named == {"<pad>", "abcdefgh"[empty // GRID], str(1 + empty % GRID)}
    item, cell = scene.objects[0], int(shares[:, 0].argmax())
    for value in (item.size, item.color, item.texture, item.shape, item.mark):
        (token,) = tokenizer(f" {value}", add_special_tokens=False)["input_ids"]
        assert float(mixture[cell, token]) >= shares[cell, 0] - 1e-6
    words = mixture[:, int(tokenizer.pad_token_id)]
    assert torch.allclose(words, torch.from_numpy(1 - shares.sum(axis=1)), atol=1e-6)


def test_some_words_are_left_out_but_few_enough(tokenizer: PreTrainedTokenizerFast) -> None:
    scene = document_scene("train", 3, 0)
    shares = cell_shares(scene)
    (token,) = tokenizer(f" {scene.objects[0].mark}", add_special_tokens=False)["input_ids"]
    alone = [item.mark for item in scene.objects].count(scene.objects[0].mark) == 1
    assert alone
    covered = shares[:, 0] > 0
    kept = [
        float((mix_words(scene, Random(seed), tokenizer)[covered, token] > 0).float().mean())
        for seed in range(200)
    ]
    assert abs(np.mean(kept) - (1 + LEAST_KEPT) / 2) < 0.05
