"""Coordinate tokens start in order, and a model starts from an earlier one with other tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from manyeyes.errors import CheckpointError
from manyeyes.world.pretrain.cards import read_card
from manyeyes.world.pretrain.language.coordinates import start_coordinates, start_from
from manyeyes.world.pretrain.language.decoder import LanguageObjective, language_config
from manyeyes.world.pretrain.language.documents import corpus
from manyeyes.world.pretrain.language.lessons import CHAT_LESSONS
from manyeyes.world.pretrain.run import pretrain
from manyeyes.world.tokenizer import COORDINATES, train_tokenizer


@pytest.fixture(scope="module")
def earlier_tokenizer() -> PreTrainedTokenizerFast:
    """Fewer tokens in another order."""
    return train_tokenizer(corpus(60, 1), size=340)


def rows(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return list(tokenizer.convert_tokens_to_ids(list(COORDINATES)))


def test_near_coordinates_start_alike(tokenizer: PreTrainedTokenizerFast) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(len(tokenizer), 64, generator=generator) * 0.04
    before = table.clone()
    start_coordinates(table, tokenizer, generator)
    ids = rows(tokenizer)
    others = [row for row in range(len(tokenizer)) if row not in ids]
    assert torch.equal(table[others], before[others])
    started = torch.nn.functional.normalize(table[ids], dim=1)
    likeness = started @ started.T
    near, far = likeness.diagonal(1).mean(), likeness.diagonal(24).mean()
    assert near > 0.95 and far < 0.8
    size = table[ids].square().mean().sqrt() / before.square().mean().sqrt()
    assert abs(float(size) - 1) < 1e-3


def test_shared_tokens_keep_their_rows(
    tokenizer: PreTrainedTokenizerFast, earlier_tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    earlier = LlamaForCausalLM(language_config(earlier_tokenizer))
    network = LlamaForCausalLM(language_config(tokenizer))
    own = network.get_input_embeddings().weight.detach().clone()
    start_from(network, tokenizer, earlier, earlier_tokenizer)
    old = earlier.get_input_embeddings().weight.detach()
    new = network.get_input_embeddings().weight.detach()
    known = earlier_tokenizer.get_vocab()
    shared = 0
    for text, row in tokenizer.get_vocab().items():
        if text in known:
            assert torch.equal(new[row], old[known[text]])
            shared += 1
        else:
            direction = torch.nn.functional.cosine_similarity(new[row], own[row], dim=0)
            assert float(direction) > 0.999
    assert len(COORDINATES) < shared < len(tokenizer)
    kept = network.model.layers[0].mlp.up_proj.weight
    assert torch.equal(kept, earlier.model.layers[0].mlp.up_proj.weight)
    assert network.lm_head.weight is network.get_input_embeddings().weight


def test_a_model_of_another_form_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    config = language_config(tokenizer)
    network = LlamaForCausalLM(config)
    config.intermediate_size = 64
    with pytest.raises(CheckpointError, match=r"another form: .*mlp"):
        start_from(network, tokenizer, LlamaForCausalLM(config), tokenizer)


def test_a_run_starts_from_a_folder_and_resumes(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    few_documents: Callable[[int], None],
) -> None:
    few_documents(2)
    LanguageObjective(3, tokenizer).export(tmp_path / "old")
    options = {"start": tmp_path / "old", "seed": 0}
    whole = pretrain("language", tmp_path / "one", steps=3, **options)
    pretrain("language", tmp_path / "two", steps=2, **options)
    again = pretrain("language", tmp_path / "two", steps=3, resume=True, **options)
    assert again.files == whole.files
    for card in (whole, again, read_card(tmp_path / "one" / "language")):
        assert card.training["first document"] == CHAT_LESSONS[-1].end
        assert card.training["weights at the start"] == "old"
