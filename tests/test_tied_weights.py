"""Language models whose output head is their embedding: light checkpoints keep the two equal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

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
