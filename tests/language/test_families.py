"""Language model families behind the contract: same loss as their own, same answers in a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

import tiny
from manyeyes.language import KINDS, kind_of
from manyeyes.language.decoder_only import supervised_columns
from manyeyes.records import IGNORE

WIDTH = 32
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GATED: dict[str, Any] = {**COMMON, "intermediate_size": 64, "num_key_value_heads": 1}
VOCABULARY = len(tiny.byte_tokenizer())
CONFIGS: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(vocab_size=VOCABULARY, **GATED),
    "opt": OPTConfig(vocab_size=VOCABULARY, ffn_dim=64, word_embed_proj_dim=WIDTH, **COMMON),
    "qwen2": Qwen2Config(vocab_size=VOCABULARY, **GATED),
    "qwen3": Qwen3Config(vocab_size=VOCABULARY, head_dim=16, **GATED),
}
CONTINUED: dict[str, PreTrainedConfig] = {
    "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=2, n_head=2),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=2),
    "mistral, short window": MistralConfig(vocab_size=VOCABULARY, sliding_window=4, **GATED),
}
"""Positions by ALiBi, positions learned without looking at the mask, a cache that forgets."""


def build(family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[family]).eval()


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_logits_at_answers_give_the_models_own_loss(family: str) -> None:
    model = build(family)
    embeddings = torch.randn(2, 9, WIDTH)
    labels = torch.full((2, 9), IGNORE)
    labels[0, 4:7], labels[1, 6:9] = torch.tensor([5, 6, 2]), torch.tensor([7, 8, 2])
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, 7:] = 0
    own = model(inputs_embeds=embeddings, attention_mask=mask, labels=labels).loss
    output = kind_of(model.config).forward(model, embeddings, None, labels)
    ours = torch.nn.functional.cross_entropy(output.logits, output.targets)
    torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5)
    assert output.logits.shape == (6, VOCABULARY)


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_left_padded_batch_answers_like_each_sample_alone(family: str) -> None:
    model, kind = build(family), kind_of(CONFIGS[family])
    embeddings = torch.randn(2, 6, WIDTH)
    ids = torch.full((2, 6), 9)
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, :2] = 0
    keep = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    together = kind.generate(model, embeddings, mask, ids, **keep)
    alone = kind.generate(model, embeddings[:1, 2:], mask[:1, 2:], ids[:1, 2:], **keep)
    assert together.shape == (2, 11)
    assert torch.equal(together[0, 6:], alone[0, 4:])


@torch.no_grad()
@pytest.mark.parametrize("family", [*sorted(CONFIGS), *sorted(CONTINUED)])
def test_continuing_a_read_prompt_equals_reading_it_all(family: str) -> None:
    """Left-padded prompts, continuations of 1 to 4 tokens padded on the right, in any order."""
    torch.manual_seed(0)
    config = {**CONFIGS, **CONTINUED}[family]
    model, kind = AutoModelForCausalLM.from_config(config).eval(), kind_of(config)
    embed = model.get_input_embeddings()
    prompts = [torch.tensor([9, 8, 7, 6, 5, 9]), torch.tensor([6, 7, 4])]
    embeddings = torch.stack(
        [embed(torch.cat([torch.zeros(6 - len(p), dtype=torch.long), p])) for p in prompts]
    )
    mask = torch.tensor([[1] * 6, [0, 0, 0, 1, 1, 1]])
    owners = torch.tensor([1, 0, 1])
    tokens = torch.tensor([[11, 12, 13, 14], [15, IGNORE, IGNORE, IGNORE], [11, 16, 2, IGNORE]])
    prompt = kind.read(model, embeddings, mask)
    for _ in range(2):
        logits = kind.continue_prompts(model, prompt, owners, tokens)
        for row, (owner, ids) in enumerate(zip(owners.tolist(), tokens, strict=True)):
            real = ids[ids != IGNORE]
            whole = torch.cat([prompts[owner], real])[None]
            alone = model(inputs_embeds=embed(whole)).logits[0, len(prompts[owner]) - 1 : -1]
            torch.testing.assert_close(logits[row, : len(real)], alone, rtol=1e-4, atol=1e-5)


def test_supervised_columns_are_the_positions_before_supervised_tokens() -> None:
    labels = torch.tensor([[IGNORE, IGNORE, 4, IGNORE], [IGNORE, IGNORE, IGNORE, 5]])
    assert supervised_columns(labels).tolist() == [1, 2]
    assert supervised_columns(torch.full((1, 3), IGNORE)).tolist() == [0]


def test_kinds_follow_the_configuration(tmp_path: Path) -> None:
    assert kind_of(CONFIGS["opt"]) is KINDS["decoder_only"]
    config = AutoConfig.from_pretrained(tiny.save_t5(tmp_path / "t5"))
    assert kind_of(config) is KINDS["encoder_decoder"]
