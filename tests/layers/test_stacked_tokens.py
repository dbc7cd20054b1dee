"""Visual tokens added after the first layers: families, Qwen3-VL itself, caches, rows, errors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, T5Config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

from manyeyes.errors import PartError
from manyeyes.layers.adapters.stacked_tokens import (
    FAMILIES,
    STACKED,
    StackedTokens,
    check_stackable,
    stack_on,
    stacking,
)

WIDTH, LAYERS, VOCABULARY, IMAGE = 32, 4, 40, 39
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GATED: dict[str, Any] = {
    **SIZES,
    "intermediate_size": 48,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "attention_dropout": 0.0,
}
OPT: dict[str, Any] = {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": WIDTH, "dropout": 0.0}
IDS = torch.tensor([[0, 0, 5, 39, 39, 7, 8], [39, 39, 6, 39, 39, 9, 4]])
MASK = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])
"""One image of two tokens behind padding; two images."""


def config_of(family: str) -> PreTrainedConfig:
    made: PreTrainedConfig = CONFIG_MAPPING[family](**(OPT if family == "opt" else GATED))
    return made


def plain(family: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def drawn(images: int = 3, depth: int = 3) -> Tensor:
    return torch.randn(images, depth, 2, WIDTH, generator=torch.Generator().manual_seed(1))


def stacked(tokens: Tensor, ids: Tensor = IDS) -> StackedTokens:
    return StackedTokens(tokens, ids == IMAGE)


def run(model: Any, given: Any, ids: Tensor = IDS, mask: Tensor = MASK) -> Tensor:
    more = {} if given is None else {STACKED: given}
    logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False, **more).logits
    return logits


def slow(model: Any, tokens: Tensor, ids: Tensor = IDS, mask: Tensor = MASK) -> Tensor:
    """The untouched model, each vector added by hand to what its layer returns.

    Behind the prompts no token is visual, whatever its id.
    """
    prompts = range(IDS.shape[1])
    places = [(r, t) for r in range(len(ids)) for t in prompts if ids[r, t] == IMAGE]
    core = model.base_model
    hooks = []
    for number in range(tokens.shape[1]):

        def add(layer: Any, args: Any, output: Any, number: int = number) -> Any:
            states = (output[0] if isinstance(output, tuple) else output).clone()
            for place, (row, position) in enumerate(places):
                states[row, position] += tokens[place // 2, number, place % 2]
            return (states, *output[1:]) if isinstance(output, tuple) else states

        layer = getattr(core, "decoder", core).layers[number]
        hooks.append(layer.register_forward_hook(add))
    found = run(model, None, ids, mask)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_vectors_added_by_hand_after_each_layer(family: str) -> None:
    model, tokens = plain(family), drawn()
    untouched, expected = run(model, None), slow(model, tokens)
    stack_on(model)
    assert torch.equal(run(model, None), untouched)
    found = run(model, stacked(tokens))
    seen = MASK.bool()
    torch.testing.assert_close(found[seen], expected[seen], rtol=1e-4, atol=1e-4)
    assert float((found - untouched)[seen].abs().max()) > 1e-2
    with stacking(stacked(tokens)):
        assert torch.equal(run(model, None), found)


@torch.no_grad()
def test_equals_the_text_model_of_qwen3_vl() -> None:
    ours, tokens = plain("qwen3"), drawn()
    rotary = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e4}
    config = Qwen3VLTextConfig(**{**GATED, "rope_parameters": rotary})
    theirs = Qwen3VLTextModel(config).eval()
    own = plain("qwen3").model
    theirs.load_state_dict(own.state_dict())
    ours.config.rope_parameters = rotary
    stack_on(ours)
    ids, mask = IDS[1:], MASK[1:]
    embeds = own.embed_tokens(ids)
    places = ids == IMAGE
    rows = [tokens[1:, number].flatten(0, 1) for number in range(3)]
    expected = theirs(
        inputs_embeds=embeds,
        attention_mask=mask,
        visual_pos_masks=places,
        deepstack_visual_embeds=rows,
        use_cache=False,
    ).last_hidden_state
    given = {STACKED: stacked(tokens[1:], ids)}
    found = ours.model(inputs_embeds=embeds, use_cache=False, **given).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# ---- caches --------------------------------------------------------------------------------------

KEEP: dict[str, Any] = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def generated(model: Any, given: StackedTokens, ids: Tensor, mask: Tensor, **more: Any) -> Tensor:
    with stacking(given):
        found: Tensor = model.generate(
            inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask, **KEEP, **more
        )
    return found


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
@pytest.mark.parametrize(
    "more", [{}, {"use_cache": False}, {"num_beams": 3}, {"cache_implementation": "static"}]
)
def test_answers_equal_those_of_the_slow_model(family: str, more: dict[str, Any]) -> None:
    """Token by token; the slow model reads prompt and answer anew for each."""
    model, tokens = plain(family), drawn()
    reference = copy.deepcopy(model)
    stack_on(model)
    found = generated(model, stacked(tokens), IDS, MASK, **more)
    if "num_beams" in more:
        assert torch.equal(found, generated(model, stacked(tokens), IDS, MASK, **more))
        alone = generated(model, stacked(tokens[:1], IDS[:1]), IDS[:1], MASK[:1], **more)
        assert torch.equal(found[:1], alone)
        return
    ids, mask = IDS, MASK
    for place in range(6):
        logits = slow(reference, tokens, ids, mask)[:, -1]
        logits[:, SIZES["eos_token_id"]] = -torch.inf
        following = logits.argmax(dim=-1)
        assert following.tolist() == found[:, place].tolist()
        ids = torch.cat([ids, found[:, place : place + 1]], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(3,), (4, 5), (6,)])
def test_a_prompt_may_be_read_in_pieces(cuts: tuple[int, ...]) -> None:
    model, tokens = plain("qwen2"), drawn()
    stack_on(model)
    whole, cache, found = run(model, stacked(tokens)), None, []
    for start, end in zip((0, *cuts), (*cuts, 7), strict=True):
        read = {"past_key_values": cache, "attention_mask": MASK[:, :end], "use_cache": True}
        out = model(input_ids=IDS[:, start:end], **read, **{STACKED: stacked(tokens)})
        cache = out.past_key_values
        found.append(out.logits)
    seen = MASK.bool()
    torch.testing.assert_close(torch.cat(found, dim=1)[seen], whole[seen], rtol=1e-4, atol=1e-5)


# ---- rows ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_copies_of_a_sample_stand_side_by_side() -> None:
    model, tokens = plain("llama"), drawn()
    stack_on(model)
    given = stacked(tokens)
    twice = run(model, given, IDS.repeat_interleave(2, dim=0), MASK.repeat_interleave(2, dim=0))
    torch.testing.assert_close(twice[::2], run(model, given), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twice[1::2], twice[::2])
    with pytest.raises(PartError, match="of 2 samples for a batch of 3 rows"):
        run(model, given, IDS[[0, 0, 1]], MASK[[0, 0, 1]])


def test_a_checkpointed_model_has_the_same_gradients() -> None:
    model, tokens = plain("llama").train(), drawn().requires_grad_()
    stack_on(model)
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            model.activation_checkpointing_enable()
        model.zero_grad()
        tokens.grad = None
        run(model, stacked(tokens))[MASK.bool()].square().sum().backward()
        found.append([tokens.grad, *(p.grad for p in model.parameters())])
    assert tokens.grad is not None and bool(tokens.grad.abs().sum(dim=(0, 2, 3)).all())
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    check_stackable(config_of("llama"), LAYERS - 1)
    with pytest.raises(PartError, match=r"first 4 layers, but .* has 4.* at most 4 levels"):
        check_stackable(config_of("llama"), LAYERS)
    with pytest.raises(PartError, match=r"'t5' is an encoder-decoder.*decoder-only"):
        check_stackable(T5Config(), 1)
    with pytest.raises(PartError, match="language model is a 'gpt2'"):
        check_stackable(CONFIG_MAPPING["gpt2"](), 1)
