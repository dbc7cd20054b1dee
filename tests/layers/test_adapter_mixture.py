"""LION's mixture of adapters in every family it reaches, against the equation (LION §2, §10)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    GPT2Config,
    MT5Config,
    OPTConfig,
    PreTrainedConfig,
    T5Config,
)
from transformers.masking_utils import create_causal_mask

from adapter_models import CONFIGS, LAYERS, VOCABULARY, WIDTH, language_model, texts
from lion_parts import slow_mixture, stir
from manyeyes.bridge import Given, parse_bridge
from manyeyes.checkpoints.tying import tied_head, untie
from manyeyes.errors import PartError, RecipeError
from manyeyes.layers.adapters.ffn_places import ffn_places, place_names
from manyeyes.layers.adapters.mixture import ROUTES, AdapterMixture, AdapterOptions, routed

T5_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
T5S: dict[str, PreTrainedConfig] = {
    "t5": T5Config(**T5_SIZES, feed_forward_proj="relu"),
    "t5, gated": T5Config(**T5_SIZES, feed_forward_proj="gated-gelu_python"),
    "mt5": MT5Config(**T5_SIZES),
}
DECODERS = [name for name in CONFIGS if name != "llama with biases"]
MIXED = [0, 1, 1, 0]


def config_of(family: str) -> PreTrainedConfig:
    return T5S.get(family) or CONFIGS[family]


def plain_model(family: str) -> Any:
    if family not in T5S:
        return language_model(family)
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config_of(family)).eval()
    untie(model, tied_head(model))  # as in the files of FlanT5
    torch.nn.init.normal_(model.lm_head.weight)
    return model


def adapted(family: str, *, stirred: bool = True, **options: Any) -> tuple[Any, AdapterMixture]:
    model, config = plain_model(family), config_of(family)
    torch.manual_seed(1)
    made = AdapterOptions(**{"bottleneck": 6, **options})
    mixture = AdapterMixture(made, place_names(config), int(config.hidden_size))
    mixture.attach(model)
    if stirred:
        stir(mixture)
    return model, mixture


def run(model: Any, ids: Tensor, routes: list[int] | None) -> Tensor:
    """Logits of all positions; the answer of a T5 is its question."""
    extra = {} if routes is None else {ROUTES: torch.tensor(routes)}
    more = {"decoder_input_ids": ids[:, :5]} if model.config.is_encoder_decoder else {}
    logits: Tensor = model(input_ids=ids, **more, **extra).logits
    return logits


def slow_t5(model: Any, mixture: AdapterMixture, ids: Tensor, routes: list[int]) -> Tensor:
    """The untouched model with every feed-forward sub-layer written out, sample by sample."""
    plain = plain_model_like(model)
    for place in ffn_places(plain):
        layer: Any = place.reads

        def forward(x: Tensor, layer: Any = layer, name: str = place.name) -> Tensor:
            added = slow_mixture(mixture, name, x, routes)
            inner = layer.DenseReluDense(layer.layer_norm(x))
            return x + inner + added

        layer.forward = forward
    return run(plain, ids, None)


def slow_decoder(model: Any, mixture: AdapterMixture, ids: Tensor, routes: list[int]) -> Tensor:
    """The untouched model layer by layer: x = h + Attn(norm(h)); x + FFN(norm(x)) + mixture."""
    plain = plain_model_like(model)
    opt = plain.config.model_type == "opt"
    core = plain.model.decoder if opt else plain.model
    h = core.embed_tokens(ids)
    places = torch.arange(ids.shape[1])[None]
    mask = create_causal_mask(
        config=plain.config, inputs_embeds=h, attention_mask=None, past_key_values=None
    )
    if plain.config.model_type == "mistral":
        from transformers.masking_utils import create_sliding_window_causal_mask

        mask = create_sliding_window_causal_mask(
            config=plain.config, inputs_embeds=h, attention_mask=None, past_key_values=None
        )
    attention: dict[str, Any] = {"attention_mask": mask}
    if opt:
        h = h + core.embed_positions(torch.ones_like(ids), 0, position_ids=places)
    else:
        attention["position_embeddings"] = core.rotary_emb(h, places)
    for index, layer in enumerate(core.layers):
        before = layer.self_attn_layer_norm if opt else layer.input_layernorm
        norm = layer.final_layer_norm if opt else layer.post_attention_layernorm
        x = h + layer.self_attn(hidden_states=before(h), **attention)[0]
        y = norm(x)
        ffn = layer.fc2(layer.activation_fn(layer.fc1(y))) if opt else layer.mlp(y)
        h = x + ffn + slow_mixture(mixture, f"layer{index}", x, routes)
    logits: Tensor = plain.lm_head(core.final_layer_norm(h) if opt else core.norm(h))
    return logits


def plain_model_like(model: Any) -> Any:
    """An untouched model with the weights of ``model``."""
    family = next(n for n, c in {**T5S, **CONFIGS}.items() if c is model.config or n == model.tag)
    plain = plain_model(family)
    plain.load_state_dict(model.state_dict())
    return plain


@torch.no_grad()
@pytest.mark.parametrize("family", [*T5S, *DECODERS])
def test_equals_the_equation_for_both_routes_and_mixed_batches(family: str) -> None:
    model, mixture = adapted(family)
    model.tag = family
    ids, _ = texts(7, 7, 7, 7)
    slow = slow_t5 if family in T5S else slow_decoder
    for routes in ([0] * 4, [1] * 4, MIXED):
        found = run(model, ids, routes)
        torch.testing.assert_close(found, slow(model, mixture, ids, routes), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", [*T5S, *DECODERS])
def test_lion_check_03_fresh_adapters_change_nothing(family: str) -> None:
    model, _ = adapted(family, stirred=False)
    ids, _ = texts(7, 7)
    plain = plain_model(family)
    if family in T5S:
        assert not torch.equal(plain.lm_head.weight, plain.shared.weight)
    untouched = run(plain, ids, None)
    for routes in ([0, 0], [1, 1], [0, 1]):
        assert float((run(model, ids, routes) - untouched).abs().max()) == 0.0


@torch.no_grad()
def test_lion_check_04_fresh_gates_sum_to_one_and_are_no_softmax() -> None:
    _, mixture = adapted("t5", stirred=False)
    first, second = mixture.gates
    for place in place_names(T5S["t5"]):
        gates: Any = (first[place], second[place])  # type: ignore[index]
        assert torch.equal(gates[0].weight + gates[1].weight, torch.ones(2, WIDTH))
        assert gates[0].weight[:, 0].tolist() == [1.0, 0.0]
        gates[0].weight.fill_(3.0)
        gates[1].weight.fill_(-2.5)
        assert gates[0](torch.tensor([1])).unique().tolist() == [3.0]
        assert gates[1](torch.tensor([0])).unique().tolist() == [-2.5]


@torch.no_grad()
@pytest.mark.parametrize("family", ["t5", "llama", "opt"])
@pytest.mark.parametrize("number", [0, 1])
def test_lion_check_05_an_adapter_acts_on_its_own_task_type(family: str, number: int) -> None:
    model, mixture = adapted(family, stirred=False)
    ids, _ = texts(7, 7)
    before = [run(model, ids, [route] * 2) for route in (0, 1)]
    stir(mixture.adapters[number])
    after = [run(model, ids, [route] * 2) for route in (0, 1)]
    assert torch.equal(after[1 - number], before[1 - number])
    assert not torch.allclose(after[number], before[number], atol=1e-3)


def gradient(mixture: AdapterMixture, prefix: str) -> float:
    found = [p.grad for n, p in mixture.named_parameters() if n.startswith(prefix)]
    return sum(float(g.abs().sum()) for g in found if g is not None)


def gate_rows(mixture: AdapterMixture, number: int) -> list[float]:
    grads = [p.grad for n, p in mixture.named_parameters() if n.startswith(f"gates.{number}.")]
    return [sum(float(g[row].abs().sum()) for g in grads if g is not None) for row in (0, 1)]


@pytest.mark.parametrize("family", ["t5", "qwen3"])
@pytest.mark.parametrize("route", [0, 1])
def test_lion_check_06_gradients_stay_on_the_route(family: str, route: int) -> None:
    model, mixture = adapted(family, stirred=False)
    for number in (0, 1):  # both adapters have learned something; gates still one-hot
        stir(mixture.adapters[number], seed=number)
    ids, _ = texts(7, 7)
    run(model, ids, [route] * 2).square().sum().backward()
    assert gradient(mixture, f"adapters.{route}.") > 0
    assert gradient(mixture, f"adapters.{1 - route}.") == 0.0
    for number in (0, 1):
        rows = gate_rows(mixture, number)
        assert rows[route] > 0 and rows[1 - route] == 0.0
    mixture.zero_grad()
    with torch.no_grad():
        for adapter in mixture.adapters[1 - route].modules():
            if hasattr(adapter, "up_proj"):
                adapter.up_proj.weight.zero_()  # type: ignore[union-attr]
                adapter.up_proj.bias.zero_()  # type: ignore[union-attr]
    run(model, ids, [route] * 2).square().sum().backward()
    assert gate_rows(mixture, 1 - route) == [0.0, 0.0]  # closed and nothing behind it


def test_lion_check_07_every_feed_forward_layer_has_a_place() -> None:
    for sizes, places in (((24, None), 48), ((3, 2), 5)):
        config = T5Config(num_layers=sizes[0], num_decoder_layers=sizes[1])
        assert len(place_names(config)) == places
    model = plain_model("t5")
    found = ffn_places(model)
    assert [place.name for place in found] == [
        *("encoder0", "encoder1", "encoder2"),
        *("decoder0", "decoder1"),
    ]
    assert found[0].reads is model.encoder.block[0].layer[1]
    assert found[-1].reads is model.decoder.block[1].layer[2]
    assert len(place_names(CONFIGS["llama"])) == LAYERS


@torch.no_grad()
@pytest.mark.parametrize("family", ["t5", "mistral", "opt"])
def test_lion_check_08_adapters_read_the_residual_stream_before_the_norm(family: str) -> None:
    model, mixture = adapted(family)
    place = ffn_places(model)[1]
    seen: dict[str, Tensor] = {}
    norm = place.reads.layer_norm if family == "t5" else place.reads
    norm.register_forward_pre_hook(lambda _, args: seen.__setitem__("raw", args[0]))  # type: ignore[operator]
    norm.register_forward_hook(lambda _, __, out: seen.__setitem__("normed", out))  # type: ignore[operator]
    adapter: Any = mixture.adapters[0][place.name]  # type: ignore[index]
    adapter.register_forward_pre_hook(lambda _, args: seen.__setitem__("adapter", args[0]))
    ids, _ = texts(7, 7)
    run(model, ids, [0, 1])
    assert torch.equal(seen["adapter"].reshape(-1, WIDTH), seen["raw"].reshape(-1, WIDTH))
    assert not torch.allclose(seen["raw"], seen["normed"], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("family", ["t5", "llama", "opt"])
@pytest.mark.parametrize("how", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {}])
def test_lion_check_14_mixed_batches_generate_as_single_samples(
    family: str, how: dict[str, Any]
) -> None:
    model, mixture = adapted(family)
    ids, _ = texts(6, 6, 6, 6)
    arguments: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, **how}
    if how.get("num_return_sequences", 1) == 1 and not how:
        arguments["use_cache"] = True

    def generate(rows: Tensor, routes: list[int]) -> Tensor:
        mask = torch.ones_like(rows)
        with routed(torch.tensor(routes)):
            out: Tensor = model.generate(
                input_ids=rows, attention_mask=mask, eos_token_id=None, **arguments
            )
        return out

    together = generate(ids, MIXED)
    alone = torch.cat([generate(row[None], [route]) for row, route in zip(ids, MIXED, strict=True)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, generate(ids, [1 - route for route in MIXED]))
    assert len(mixture.gates) == 2


@torch.no_grad()
def test_decoding_with_a_cache_equals_reading_everything_again() -> None:
    for family in ("t5", "llama", "opt"):
        model, _ = adapted(family)
        ids, _ = texts(6, 6)
        found = []
        for cache in (True, False):
            with routed(torch.tensor([0, 1])):
                found.append(
                    model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=6,
                        do_sample=False,
                        eos_token_id=None,
                        use_cache=cache,
                    )
                )
        assert torch.equal(*found)


@pytest.mark.parametrize("family", ["t5", "llama", "opt"])
def test_checkpointing_changes_neither_loss_nor_gradients(family: str) -> None:
    model, mixture = adapted(family)
    model.requires_grad_(False)
    ids, _ = texts(7, 7)
    found = []
    for checkpointed in (False, True):
        model.train()
        if checkpointed:
            model.activation_checkpointing_enable()
        mixture.zero_grad()
        # two passes of different routes before one backward: each must be run again as it was
        losses = [
            model(input_ids=ids, labels=ids, **{ROUTES: torch.tensor(routes)}).loss
            for routes in ([0, 1], [1, 1])
        ]
        (losses[0] + 2 * losses[1]).backward()
        found.append([losses[0].detach(), *(p.grad for p in mixture.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_copy_of_a_model_uses_its_own_adapters() -> None:
    model, mixture = adapted("t5")
    both = torch.nn.ModuleDict({"model": model, "mixture": mixture})
    copied: Any = copy.deepcopy(both)
    ids, _ = texts(7, 7)
    before = run(model, ids, [0, 1])
    assert torch.equal(run(copied["model"], ids, [0, 1]), before)
    stir(copied["mixture"], seed=5)
    assert torch.equal(run(model, ids, [0, 1]), before)
    assert not torch.equal(run(copied["model"], ids, [0, 1]), before)


@torch.no_grad()
def test_one_adapter_and_no_router_need_no_routes() -> None:
    ids, _ = texts(7, 7)
    model, mixture = adapted("t5", count=1)
    assert not len(mixture.gates)
    plain = run(plain_model("t5"), ids, None)
    assert not torch.allclose(run(model, ids, None), plain)
    model, mixture = adapted("t5", router=False)
    assert len(mixture.adapters) == 2 and not len(mixture.gates)
    assert torch.equal(run(model, ids, None), run(model, ids, [0, 1]))


def test_half_precision_is_followed() -> None:
    model, _ = adapted("llama")
    model.to(torch.bfloat16)
    ids, _ = texts(5, 5)
    assert run(model, ids, [0, 1]).dtype == torch.bfloat16


def test_routes_are_asked_for_and_counted() -> None:
    model, _ = adapted("t5")
    ids, _ = texts(5, 5)
    with pytest.raises(PartError, match=r"task=.*region_level, image_level"):
        run(model, ids, None)
    with pytest.raises(PartError, match="routes of 3 samples for a batch of 2 rows"):
        run(model, ids, [0, 1, 1])


def test_families_and_options_are_checked() -> None:
    bridge, options = parse_bridge({"name": "placeholder", "adapters": {"bottleneck": 8}})
    with pytest.raises(PartError, match=r"the language model is a 'gpt2'"):
        bridge.check(options, GPT2Config(), Given(4))
    with pytest.raises(PartError, match="do_layer_norm_before"):
        bridge.check(options, OPTConfig(do_layer_norm_before=False), Given(4))
    with pytest.raises(RecipeError, match=r"bridge\.adapters.*did you mean 'bottleneck'"):
        parse_bridge({"name": "placeholder", "adapters": {"botleneck": 8}})
    with pytest.raises(RecipeError, match=r"bridge\.adapters\.count: 3"):
        parse_bridge({"name": "placeholder", "adapters": {"count": 3}})
