"""Activation checkpointing reaches parts that are frozen and that gradients pass through."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from manyeyes import ManyEyesForConditionalGeneration
from manyeyes.layers.recompute import recompute_frozen
from whole_model import Build, Pictures, batch, freeze


def blocks(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]


@contextmanager
def counted(modules: list[nn.Module]) -> Iterator[list[int]]:
    """Count how often modules begin to run forward."""
    runs = [0]

    def count(*_: object) -> None:
        runs[0] += 1

    hooks = [module.register_forward_pre_hook(count) for module in modules]
    yield runs
    for hook in hooks:
        hook.remove()


def trained(
    build: Build, pictures: Pictures, *, recompute: bool
) -> tuple[ManyEyesForConditionalGeneration, float, int]:
    """One backward pass to the fusion; the language model is frozen."""
    model, processor = build()
    freeze(model, "encoders.", "language_model.")
    if recompute:
        model.activation_checkpointing_enable()
    model.train()
    inner = [block.mlp for block in blocks(model.language_model)]
    assert inner
    with counted(inner) as runs:
        loss = model(**batch(processor, pictures)).loss
        loss.backward()
    return model, float(loss.detach()), runs[0]


def test_blocks_of_a_frozen_language_model_run_again(build: Build, pictures: Pictures) -> None:
    plain, loss, once = trained(build, pictures, recompute=False)
    model, same, twice = trained(build, pictures, recompute=True)
    assert twice == 2 * once
    assert same == loss
    for a, b in zip(plain.fusion.parameters(), model.fusion.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-8)


def test_nothing_runs_again_without_a_graph(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    freeze(model, "encoders.", "language_model.")
    model.activation_checkpointing_enable()
    model.train()
    rows = batch(processor, pictures)
    inner = [block.mlp for block in blocks(model.language_model)]
    with torch.no_grad(), counted(inner) as runs:
        model(**rows)
    assert runs[0] == len(inner)


def test_a_frozen_block_drops_nothing() -> None:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        ffn_dim=16,
        num_attention_heads=2,
        max_position_embeddings=16,
        word_embed_proj_dim=16,
        dropout=0.5,
    )
    model = OPTForCausalLM(config).eval().requires_grad_(False)
    states = torch.randn(1, 5, 16, requires_grad=True)
    expected = model(inputs_embeds=states, use_cache=False).logits
    recompute_frozen(model)
    model.activation_checkpointing_enable()
    with counted([block.fc1 for block in blocks(model)]) as runs:
        found = model(inputs_embeds=states, use_cache=False).logits
        found.sum().backward()
    assert runs[0] == 4
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_copies_have_blocks_of_their_own(how: str, build: Build, pictures: Pictures) -> None:
    model, _, _ = trained(build, pictures, recompute=False)
    part = model.language_model
    again = copy.deepcopy(part) if how == "copy" else pickle.loads(pickle.dumps(part))
    for old, new in zip(blocks(part), blocks(again), strict=True):
        assert new.forward.args[0] is new and new is not old  # type: ignore[attr-defined]
