"""Texts behind one beginning read as if each stood alone behind it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from manyeyes.layers.adapters.attention import PROMPTS, AdapterState, adapt
from manyeyes.layers.attention.shared_prefix import NAME, SHARED_PREFIX, SharedPrefix

BEGINNINGS = ([1, 2, 3, 4, 5], [6, 7, 8])
TEXTS = (([11, 12, 13], [14, 15], [16, 17, 18, 19]), ([20, 21], [22, 23, 24]))
SLOT = 5


@pytest.fixture(params=[4, 2], ids=["every head its own keys", "two heads share keys"])
def model(request: pytest.FixtureRequest) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=request.param,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def batch() -> tuple[Tensor, Tensor, SharedPrefix, list[tuple[int, int, int, int]]]:
    """Return ids, positions, structure, and (document, text, first, end) of every text."""
    longest = max(len(ids) for ids in BEGINNINGS)
    packed = (((0, 1), (2,)), ((0, 1),))
    ids = torch.zeros(2, longest + 2 * SLOT, dtype=torch.long)
    positions = torch.zeros_like(ids)
    positions[:, :longest] = torch.arange(longest)
    beginning = torch.zeros(2, longest, dtype=torch.bool)
    owner = torch.full((2, 2, SLOT), -1)
    places = []
    for row, (first, slots) in enumerate(zip(BEGINNINGS, packed, strict=True)):
        ids[row, : len(first)] = torch.tensor(first)
        beginning[row, : len(first)] = True
        for slot, numbers in enumerate(slots):
            at = 0
            for number in numbers:
                text = TEXTS[row][number]
                start = longest + slot * SLOT + at
                ids[row, start : start + len(text)] = torch.tensor(text)
                positions[row, start : start + len(text)] = len(first) + torch.arange(len(text))
                owner[row, slot, at : at + len(text)] = number
                places.append((row, number, start, start + len(text)))
                at += len(text)
    slots_BRSS = (owner[..., :, None] == owner[..., None, :]).tril()
    return ids, positions, SharedPrefix(beginning, slots_BRSS), places


def logits(model: LlamaForCausalLM) -> tuple[Tensor, list[tuple[int, int, int, int]]]:
    ids, positions, shared, places = batch()
    model.set_attn_implementation(NAME)
    found = model(input_ids=ids, position_ids=positions, use_cache=False, **{SHARED_PREFIX: shared})
    return found.logits, places


def test_every_text_reads_as_if_alone(model: LlamaForCausalLM) -> None:
    together, places = logits(model)
    model.set_attn_implementation("eager")
    for row, number, first, end in places:
        alone = torch.tensor([[*BEGINNINGS[row], *TEXTS[row][number]]])
        expected = model(input_ids=alone, use_cache=False).logits[0, len(BEGINNINGS[row]) :]
        torch.testing.assert_close(together[row, first:end], expected, atol=1e-5, rtol=1e-5)


def test_beginnings_read_themselves_alone(model: LlamaForCausalLM) -> None:
    together, _ = logits(model)
    model.set_attn_implementation("eager")
    for row, first in enumerate(BEGINNINGS):
        expected = model(input_ids=torch.tensor([first]), use_cache=False).logits[0]
        torch.testing.assert_close(together[row, : len(first)], expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_texts_alone(model: LlamaForCausalLM) -> None:
    together, places = logits(model)
    sum(together[row, first:end].square().sum() for row, _, first, end in places).backward()
    got = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.set_attn_implementation("eager")
    for row, number, _, _ in places:
        alone = torch.tensor([[*BEGINNINGS[row], *TEXTS[row][number]]])
        found = model(input_ids=alone, use_cache=False).logits[0, len(BEGINNINGS[row]) :]
        found.square().sum().backward()
    for name, parameter in model.named_parameters():
        rounding = 1e-5 * float(parameter.grad.abs().max())  # norms are computed in float32
        torch.testing.assert_close(got[name], parameter.grad, atol=rounding, rtol=1e-4)


def test_without_a_structure_it_is_ordinary_attention(model: LlamaForCausalLM) -> None:
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    model.set_attn_implementation("sdpa")
    expected = model(input_ids=ids, use_cache=False).logits
    model.set_attn_implementation(NAME)
    assert torch.equal(model(input_ids=ids, use_cache=False).logits, expected)


@torch.no_grad()
def test_texts_behind_one_beginning_read_adapter_prompts_too(model: LlamaForCausalLM) -> None:
    """The gated term of each text is that of the text alone, with its own row's prompts."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn(2, 3, 32, generator=generator)
    gates = torch.tensor([0.5, -0.3, 0.8, 0.2])

    def state(rows: slice) -> AdapterState:
        return AdapterState({1: prompts[rows]}, {1: gates})

    ids, positions, shared, places = batch()
    model.set_attn_implementation(NAME)
    adapt(model)
    packed = model(
        input_ids=ids,
        position_ids=positions,
        use_cache=False,
        **{SHARED_PREFIX: shared, PROMPTS: state(slice(0, 2))},
    ).logits
    for row, number, first, end in places:
        alone = torch.tensor([[*BEGINNINGS[row], *TEXTS[row][number]]])
        said = model(input_ids=alone, use_cache=False, **{PROMPTS: state(slice(row, row + 1))})
        behind = said.logits[0, len(BEGINNINGS[row]) :]
        torch.testing.assert_close(packed[row, first:end], behind, rtol=1e-4, atol=1e-4)
        untouched = model(input_ids=alone, use_cache=False).logits[0, len(BEGINNINGS[row]) :]
        assert not torch.allclose(behind, untouched, atol=1e-2)
