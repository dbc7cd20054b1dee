"""Weights that are computed anew equal those of slow attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from manyeyes.layers.attention.cross import Attention, BlockShape
from manyeyes.layers.attention.maps import attention_weights, watching
from manyeyes.layers.attention.qformer import attention_mask, image_attentions, run_layers
from manyeyes.layers.attention.query_blocks import QueryBlocks


def qformer(attention: str) -> Any:
    torch.manual_seed(0)
    config = Blip2QFormerConfig(
        vocab_size=1,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=24,
        encoder_hidden_size=12,
        initializer_range=0.5,
        use_qformer_text_input=True,
        attn_implementation=attention,
    )
    return Blip2QFormerModel(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("text", [0, 3])
def test_the_qformers_maps_are_those_of_eager_attention(text: int) -> None:
    """Text beside the queries changes what they ask, and is no reader of the image itself."""
    embeddings, image = torch.randn(2, 5 + text, 16), torch.randn(2, 7, 12)
    mask = attention_mask("bidirectional", 5, torch.ones(2, text)) if text else None
    fast, slow = qformer("sdpa"), qformer("eager")
    with watching(image_attentions(fast, ("clip",))) as found:
        given = run_layers(fast, embeddings, 5, mask, image)
    expected: list[Tensor] = []
    for layer in slow.encoder.layer[::2]:
        layer.crossattention.attention.register_forward_hook(
            lambda _, __, output: expected.append(output[1])
        )
    again = run_layers(slow, embeddings, 5, mask, image)
    torch.testing.assert_close(given, again, atol=1e-4, rtol=1e-4)
    assert list(found) == ["Q-Former, layer 1", "Q-Former, layer 3"]
    for weights, eager in zip(found.values(), expected, strict=True):
        assert weights.shape == (2, 4, 5, 7)
        torch.testing.assert_close(weights, eager, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_map_of_an_attention_gives_its_output() -> None:
    torch.manual_seed(0)
    attention = Attention(BlockShape(width=8, context=6, inner=12, heads=3), 6).eval()
    x, y = torch.randn(2, 4, 8), torch.randn(2, 5, 6)
    mask = torch.rand(2, 1, 4, 5) > 0.4
    mask[..., 0] = True
    weights = attention.weights(x, y, mask)
    assert bool((weights[~mask.expand_as(weights)] == 0).all())
    mixed = weights @ attention._split(attention.value(y))
    torch.testing.assert_close(
        attention.out(mixed.transpose(1, 2).flatten(2)), attention(x, y, mask)
    )


@torch.no_grad()
def test_the_map_of_joint_blocks_gives_their_output() -> None:
    torch.manual_seed(0)
    blocks: Any = QueryBlocks(8, 2, 1)
    attention, x = blocks[0].attn, torch.randn(2, 6, 8)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    weights = attention.weights(x, mask)
    value = attention.qkv(x)[..., 16:].unflatten(-1, (2, 4)).transpose(1, 2)
    mixed = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.proj(mixed), attention(x, mask))


@torch.no_grad()
def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    blocks = QueryBlocks(8, 2, 2)
    sites = blocks.attentions("Scene", "clip", 2)
    with pytest.raises(ZeroDivisionError), watching(sites):
        raise ZeroDivisionError
    assert all(not site.module._forward_hooks for site in sites)


def test_weights_are_in_single_precision() -> None:
    query, key = torch.randn(2, 1, 1, 3, 4).bfloat16()
    assert attention_weights(query, key).dtype == torch.float32
