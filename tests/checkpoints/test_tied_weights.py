"""Output heads that are the embedding stay so; those with weights of their own keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor

EMBEDDING = "language_model.model.embed_tokens.weight"


@pytest.fixture
def tied(parts: Path, tmp_path: Path) -> ManyEyesForConditionalGeneration:
    """A COMM model over a Llama with tied embeddings."""
    tokenizer = tiny.byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(3)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    block = {**tiny.model_block(parts), "language": {"checkpoint": str(tmp_path / "llama")}}
    built = ManyEyesConfig(**block)
    ManyEyesProcessor.from_config(built)
    return ManyEyesForConditionalGeneration.from_parts(built)


@pytest.mark.parametrize(
    "trained", ["language_model.", EMBEDDING, "language_model.model.layers.0."]
)
def test_a_trained_tied_head_survives_light_checkpoints(
    tied: ManyEyesForConditionalGeneration, tmp_path: Path, trained: str
) -> None:
    for name, parameter in tied.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
        if name.startswith(trained):
            parameter.data += 0.5
    tied.train()
    expected = {name: tensor.clone() for name, tensor in tied.state_dict().items()}
    tied.save_pretrained(tmp_path / "first")
    for source, target in (("first", "second"), ("second", "third")):
        again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / source)
        head, embedding = again.get_output_embeddings(), again.get_input_embeddings()
        assert head is not None
        assert head.weight is embedding.weight
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
        again.requires_grad_(False)
        again.save_pretrained(tmp_path / target)


def save_own_head(folder: Path, family: str) -> Any:
    """Save a language model whose configuration ties its head, with a head of its own in the file.

    Returns it as ``transformers`` loads it.
    """
    if family == "t5":
        tiny.save_t5(folder)
        return AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tiny.save_llama(folder)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "tie_word_embeddings": True}))
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def whole(parts: Path, language: Path) -> ManyEyesForConditionalGeneration:
    block = {**tiny.model_block(parts), "language": {"checkpoint": str(language)}}
    config = ManyEyesConfig(**block)
    ManyEyesProcessor.from_config(config)
    return ManyEyesForConditionalGeneration.from_parts(config)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    ids = torch.arange(5, 12)[None]
    more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    found: Tensor = model(input_ids=ids, **more).logits
    return found


@pytest.mark.parametrize("family", ["t5", "llama"])
@pytest.mark.parametrize("how", ["light", "self-contained", "trained"])
def test_a_head_of_its_own_arrives_in_spite_of_a_tied_configuration(
    parts: Path, tmp_path: Path, family: str, how: str
) -> None:
    alone = save_own_head(tmp_path / "language", family)
    expected = logits(alone)
    assert float(expected.abs().max()) > 0.1
    model = whole(parts, tmp_path / "language")
    assert model.config.untied == ["language_model.lm_head.weight"]
    assert torch.equal(logits(model.language_model), expected)
    state = model.language_model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in alone.state_dict().items())
    if how == "trained":
        with torch.no_grad():
            model.language_model.lm_head.weight.mul_(2.0)
        expected = logits(model.language_model)
    else:
        model.requires_grad_(False)
    for place in ("first", "second"):
        model.save_pretrained(tmp_path / place, self_contained=how == "self-contained")
        model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / place)
        assert torch.equal(logits(model.language_model), expected)
        model.tie_weights()  # as resizing and others do
        assert torch.equal(logits(model.language_model), expected)
        held = {id(p) for p in model.language_model.parameters()}
        assert id(model.language_model.lm_head.weight) in held
        assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


def test_a_tied_file_stays_tied_where_its_configuration_speaks_of_a_head(
    parts: Path, tmp_path: Path
) -> None:
    """transformers ties a T5 whose file holds no head, whatever its configuration says."""
    language = tiny.save_t5(tmp_path / "t5")
    tensors = load_file(language / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, language / "model.safetensors", {"format": "pt"})
    model = whole(parts, language)
    assert model.config.untied == []
    model.save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    for found in (model, again):
        assert found.get_output_embeddings().weight is found.get_input_embeddings().weight
        expected = AutoModelForSeq2SeqLM.from_pretrained(language).eval()
        assert torch.equal(logits(found.language_model), logits(expected))
