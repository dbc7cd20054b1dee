"""Gated adapter attention over every supported family: identity, a slow reference, the cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.masking_utils import AttentionMaskInterface

from adapter_models import CONFIGS, HEADS, LAYERS, LENGTH, bridge, evidence, language_model, texts
from manyeyes.bridge.adapter_prompts import AdapterPromptsBridge
from manyeyes.errors import PartError
from manyeyes.layers.adapters.attention import (
    FAMILIES,
    PROMPTS,
    AdapterState,
    adapt,
    answering,
    positions,
)

FAMILY = pytest.mark.parametrize("family", sorted(CONFIGS))
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ATTENTIONS = ["sdpa", "eager"]


def logits(model: Any, ids: Tensor, mask: Tensor | None, state: AdapterState | None) -> Tensor:
    extra = {} if state is None else {PROMPTS: state}
    if mask is not None:
        extra["position_ids"] = positions(mask)
    return model(input_ids=ids, attention_mask=mask, **extra).logits


def generated(model: Any, ids: Tensor, mask: Tensor, state: AdapterState | None, **how: Any) -> Any:
    keep = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **how}
    with answering(state):
        return model.generate(input_ids=ids, attention_mask=mask, **keep)


def test_every_supported_family_is_tested_here() -> None:
    assert {config.model_type for config in CONFIGS.values()} == set(FAMILIES)


@torch.no_grad()
@FAMILY
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mr_mllm_check_01_zero_gates_are_the_untouched_model_bit_for_bit(
    family: str, dtype: torch.dtype, attention: str
) -> None:
    ids, mask = texts(9, 5)
    untouched = logits(language_model(family, dtype, attention), ids, mask, None)
    model = language_model(family, dtype, attention)
    state = bridge(family, gate=0.0).prompts(model, 2, evidence(2), None)
    assert model.config._attn_implementation == f"adapter_{attention}"
    assert torch.equal(logits(model, ids, mask, state), untouched)
    assert torch.equal(logits(model, ids, mask, None), untouched)
    moved = bridge(family, gate=0.5).prompts(model, 2, evidence(2), None)
    assert not torch.equal(logits(model, ids, mask, moved), untouched)


@torch.no_grad()
@FAMILY
@pytest.mark.parametrize("beams", [1, 3])
def test_mr_mllm_check_02_zero_gates_write_the_same_text(family: str, beams: int) -> None:
    ids, mask = texts(6, 4)
    untouched = generated(language_model(family), ids, mask, None, num_beams=beams)
    model = language_model(family)
    state = bridge(family, gate=0.0).prompts(model, 2, evidence(2), None)
    assert torch.equal(generated(model, ids, mask, state, num_beams=beams), untouched)


@torch.no_grad()
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_mr_mllm_check_02_without_the_mask_registration_the_identity_breaks(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, mask = texts(9, 5)
    untouched = logits(language_model("llama", attention=attention), ids, mask, None)
    model = language_model("llama", attention=attention)
    state = bridge("llama", gate=0.0).prompts(model, 2, evidence(2), None)
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, f"adapter_{attention}")
    assert float((logits(model, ids, mask, state) - untouched).abs().max()) > 1e-2


@torch.no_grad()
def test_mr_mllm_check_04_zero_gates_with_an_output_bias() -> None:
    model = language_model("llama with biases")
    assert float(model.model.layers[-1].self_attn.o_proj.bias.abs().min()) > 0
    ids, mask = texts(9, 5)
    untouched = logits(model, ids, mask, None)
    state = bridge("llama with biases", gate=0.0).prompts(model, 2, evidence(2), None)
    assert torch.equal(logits(model, ids, mask, state), untouched)


class Reference:
    """The second term by its equation, one sample and one head at a time, as hooks on the model.

    It takes each attention module's query as the model computed it and adds its own term to what
    enters the output projection.
    """

    def __init__(self, family: str, made: AdapterPromptsBridge, images: Tensor) -> None:
        self.family, self.made, self.images = family, made, images
        self.model = language_model(family, attention="eager")
        self.queries: dict[int, Tensor] = {}
        module = __import__(type(self.model).__module__, fromlist=["x"])
        self.module, self.eager = module, module.eager_attention_forward

    def __call__(self, ids: Tensor, mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
        monkeypatch.setattr(self.module, "eager_attention_forward", self._attend)
        return logits(self.model, ids, mask, None)

    def _attend(self, module: Any, query: Tensor, *rest: Any, **named: Any) -> Any:
        output, weights = self.eager(module, query, *rest, **named)
        layer = module.layer_idx
        if layer == 0:
            return output, weights
        output = output.clone()
        queries = self.made.queries.weight.view(LAYERS - 1, LENGTH, -1)[layer - 1]
        scale = 1.0 / math.sqrt(module.head_dim) if self.family != "opt" else 1.0
        for sample in range(len(query)):
            prompts = queries + self.images[sample, 0]
            keys = module.k_proj(prompts).view(LENGTH, -1, module.head_dim)
            values = module.v_proj(prompts).view(LENGTH, -1, module.head_dim)
            if self.family == "qwen3":
                keys = module.k_norm(keys)
            for head in range(HEADS):
                group = head * keys.shape[1] // HEADS
                scores = query[sample, head] @ keys[:, group].T * scale
                gate = math.tanh(float(self.made.gates[layer - 1, head]))
                output[sample, :, head] += gate * (scores.softmax(dim=-1) @ values[:, group])
        return output, weights


@torch.no_grad()
@FAMILY
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_mr_mllm_check_05_the_second_term_is_the_equation(
    family: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, mask = texts(8, 8)
    made, images = bridge(family), evidence(2)
    model = language_model(family, attention=attention)
    ours = logits(model, ids, mask, made.prompts(model, 2, images, None))
    assert images.prompts is not None
    expected = Reference(family, made, images.prompts)(ids, mask, monkeypatch)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "llama, grouped heads", "qwen3"])
def test_mr_mllm_check_05_a_gate_moves_its_own_head_only(family: str) -> None:
    ids, mask = texts(7)
    seen: list[Tensor] = []
    model, made = language_model(family), bridge(family)
    module = model.model.layers[-1].self_attn.o_proj
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits(model, ids, mask, made.prompts(model, 1, evidence(1), None))
    made.gates[-1, 2] += 0.5
    logits(model, ids, mask, made.prompts(model, 1, evidence(1), None))
    change = (seen[1] - seen[0]).unflatten(-1, (HEADS, -1)).abs().amax(dim=(0, 1, 3))
    assert float(change[2]) > 1e-3
    assert change[[0, 1, 3]].tolist() == [0.0, 0.0, 0.0]


@torch.no_grad()
@FAMILY
def test_mr_mllm_check_06_cached_steps_equal_the_full_forward(family: str) -> None:
    model, made, images = language_model(family), bridge(family), evidence(2)
    ids, mask = texts(9, 6)
    state = made.prompts(model, 2, images, None)
    full = logits(model, ids, mask, state)
    start = {"attention_mask": mask[:, :6], "position_ids": positions(mask)[:, :6]}
    first = model(input_ids=ids[:, :6], **start, **{PROMPTS: state})
    steps = [first.logits]
    for place in range(6, 9):
        past = {"past_key_values": first.past_key_values, "use_cache": True}
        read = {"attention_mask": mask[:, : place + 1], PROMPTS: state}
        read["position_ids"] = positions(mask)[:, place : place + 1]
        first = model(input_ids=ids[:, place : place + 1], **read, **past)
        steps.append(first.logits)
    kept = mask.bool()
    torch.testing.assert_close(torch.cat(steps, dim=1)[kept], full[kept], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@FAMILY
@pytest.mark.parametrize("beams", [1, 3])
def test_mr_mllm_check_06_cache_and_batch_change_no_answer(family: str, beams: int) -> None:
    model, made, images = language_model(family), bridge(family), evidence(2)
    ids, mask = texts(7, 4)
    assert images.prompts is not None
    state = made.prompts(model, 2, images, None)
    together = generated(model, ids, mask, state, num_beams=beams)
    fresh = made.prompts(model, 2, images, None)
    uncached = generated(model, ids, mask, fresh, num_beams=beams, use_cache=False)
    assert torch.equal(together, uncached)
    assert not fresh._kept == {} and len(state._kept) == LAYERS - 1
    for row, start in ((0, 0), (1, 3)):
        alone = made.prompts(model, 1, evidence_row(images.prompts, row), None)
        part = slice(row, row + 1), slice(start, None)
        single = generated(model, ids[part], mask[part], alone, num_beams=beams)
        assert torch.equal(single[0, -6:], together[row, -6:])


def evidence_row(prompts: Tensor, row: int) -> Any:
    return type(evidence(1))(prompts=prompts[row : row + 1])


@torch.no_grad()
def test_mr_mllm_check_06_kept_keys_and_values_are_those_computed_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, made, images = language_model("qwen3"), bridge("qwen3"), evidence(2)
    ids, mask = texts(7, 4)
    kept = generated(model, ids, mask, made.prompts(model, 2, images, None), num_beams=3)
    monkeypatch.setattr(AdapterState, "keys_values", AdapterState._compute)
    anew = generated(model, ids, mask, made.prompts(model, 2, images, None), num_beams=3)
    assert torch.equal(kept, anew)


@torch.no_grad()
def test_several_answers_per_sample_read_their_own_image() -> None:
    model, made = language_model("llama"), bridge("llama")
    ids, mask = texts(5, 5)
    state = made.prompts(model, 2, evidence(2), None)
    torch.manual_seed(0)
    sampled = generated(model, ids, mask, state, num_return_sequences=3, do_sample=True, top_k=1)
    greedy = generated(model, ids, mask, made.prompts(model, 2, evidence(2), None))
    assert torch.equal(sampled, greedy.repeat_interleave(3, dim=0))


@torch.no_grad()
@FAMILY
@pytest.mark.parametrize("pad", ["left", "right"])
def test_padding_on_either_side_changes_no_logit(family: str, pad: str) -> None:
    model, made, images = language_model(family), bridge(family), evidence(2)
    ids, mask = texts(8, 5, pad=pad)
    assert images.prompts is not None
    both = logits(model, ids, mask, made.prompts(model, 2, images, None))[1][mask[1].bool()]
    single = ids[1:, mask[1].bool()]
    state = made.prompts(model, 1, evidence_row(images.prompts, 1), None)
    alone = logits(model, single, torch.ones_like(single), state)[0]
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@FAMILY
def test_mr_mllm_check_07_exchanged_prompts_exchange_the_logits(family: str) -> None:
    model, made = language_model(family), bridge(family)
    ids = texts(6)[0].expand(2, -1)
    images = evidence(2)
    assert images.prompts is not None
    straight = logits(model, ids, None, made.prompts(model, 2, images, None))
    index = torch.tensor([1, 0])
    crossed = logits(model, ids, None, made.prompts(model, 2, images, None, index))
    torch.testing.assert_close(crossed, straight.flip(0), rtol=1e-5, atol=1e-5)
    assert float((straight[0] - straight[1]).abs().max()) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("layers", [None, 1, 2])
def test_mr_mllm_check_08_earlier_layers_never_take_the_adapter_path(
    layers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    compute = AdapterState._compute

    def noted(self: AdapterState, module: Any, query: Tensor) -> Any:
        called.append(module.layer_idx)
        return compute(self, module, query)

    monkeypatch.setattr(AdapterState, "_compute", noted)
    model, made = language_model("llama"), bridge("llama", layers=layers)
    names = {name for name, _ in language_model("llama").named_parameters()}
    ids, mask = texts(5)
    logits(model, ids, mask, made.prompts(model, 1, evidence(1), None))
    assert called == list(range(LAYERS - (layers or LAYERS - 1), LAYERS))
    assert {name for name, _ in model.named_parameters()} == names
    assert made.gates.shape == (len(called), HEADS)


def loss_and_gradients(model: Any, made: AdapterPromptsBridge) -> tuple[Tensor, list[Tensor]]:
    ids, mask = texts(8, 6, pad="right")
    state = made.prompts(model, 2, evidence(2), None)
    labels = ids.masked_fill(mask == 0, -100)
    loss = model(
        input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, **{PROMPTS: state}
    ).loss
    made.zero_grad()
    loss.backward()
    return loss.detach(), [p.grad for p in made.parameters() if p.grad is not None]


@FAMILY
def test_mr_mllm_check_12_checkpointing_changes_neither_loss_nor_gradients(family: str) -> None:
    model, made = language_model(family).train(), bridge(family)
    plain = loss_and_gradients(model, made)
    model.activation_checkpointing_enable()
    again = loss_and_gradients(model, made)
    assert torch.equal(plain[0], again[0]) and len(plain[1]) == 2
    for one, other in zip(plain[1], again[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_another_attention_is_refused() -> None:
    model = language_model("llama")
    model.config._attn_implementation_internal = "flex_attention"
    with pytest.raises(
        PartError, match="sdpa, eager, shared_prefix; the language model is set to 'flex"
    ):
        adapt(model)


def test_changing_the_attention_later_keeps_the_prompts() -> None:
    model, made = language_model("llama"), bridge("llama")
    made.prompts(model, 1, evidence(1), None)
    model.set_attn_implementation("eager")
    state = made.prompts(model, 1, evidence(1), None)
    assert model.config._attn_implementation == "adapter_eager"
    ids, mask = texts(5)
    fused = language_model("llama")
    expected = logits(fused, ids, mask, made.prompts(fused, 1, evidence(1), None))
    torch.testing.assert_close(logits(model, ids, mask, state), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_that_is_no_multiple_of_the_prompts_is_refused() -> None:
    model, made = language_model("llama"), bridge("llama")
    ids, mask = texts(5, 5, 5)
    with pytest.raises(PartError, match="prompts of 2 samples for a batch of 3 rows"):
        logits(model, ids, mask, made.prompts(model, 2, evidence(2), None))
