"""Texts of a micro-batch in one row: loss and gradients as side by side, and no padding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

import tiny
from lion_parts import lion_block
from manyeyes.errors import RecipeError
from manyeyes.language.decoder_only import DecoderOnly
from manyeyes.layers.attention.packed import FAMILIES, KEYWORD, pack_attention, reading_packed
from manyeyes.recipes import Recipe
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.training import train
from manyeyes.training.packing import packed
from manyeyes.training.stage import RunOptions, Stage
from training_runs import losses, recipe_data, same_weights
from whole_model import Build, Pictures, batch

MakeRecipe = Callable[..., Recipe]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**GROUPED),
    "mistral": lambda: MistralConfig(**GROUPED, sliding_window=3),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "qwen3": lambda: Qwen3Config(**GROUPED, head_dim=4),
    "opt": lambda: OPTConfig(**SIZES, ffn_dim=24, word_embed_proj_dim=16, dropout=0.0),
}


def rows_of(lengths: tuple[int, ...]) -> list[dict[str, torch.Tensor]]:
    """Random texts whose second half is supervised."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length in lengths:
        ids = torch.randint(3, 40, (length,), generator=generator)
        labels = torch.where(torch.arange(length) * 2 >= length, ids, -100)
        rows.append({"input_ids": ids, "labels": labels, "image_counts": torch.tensor([0])})
    return rows


def side_by_side(rows: Any) -> dict[str, Any]:
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad([row["input_ids"] for row in rows], batch_first=True),
        "labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=-100),
        "image_counts": torch.cat([row["image_counts"] for row in rows]),
    }


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[Any, list[Any]]:
    model.zero_grad()
    inputs = {key: batch[key] for key in ("position_ids", KEYWORD) if key in batch}
    embeds = model.get_input_embeddings()(batch["input_ids"])
    with reading_packed(inputs.get(KEYWORD)):
        out = DecoderOnly().forward(model, embeds, None, batch["labels"], **inputs)
    loss = torch.nn.functional.cross_entropy(out.logits.float(), out.targets)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_side_by_side(family: str, attention: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family](), attn_implementation=attention)
    rows = rows_of((3, 9, 1, 6))
    loss, gradients = loss_and_gradients(model, side_by_side(rows))
    pack_attention(model)
    one_row = packed(side_by_side)(rows)
    assert one_row["input_ids"].shape == (1, 19) and one_row[KEYWORD] == [3, 9, 1, 6]
    found, theirs = loss_and_gradients(model, one_row)
    assert torch.allclose(found, loss, atol=1e-6)
    assert len(theirs) == len(gradients)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(theirs, gradients, strict=True))
    # the same model still reads rows side by side
    again, _ = loss_and_gradients(model, side_by_side(rows))
    assert torch.allclose(again, loss, atol=1e-6)


def test_images_stand_in_the_row_of_their_texts(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    model.train()
    rows: list[Any] = []

    def keep(found: Any) -> Any:
        rows.extend(found)
        return plain(found)

    plain = processor.collate
    processor.collate = keep  # type: ignore[method-assign]
    expected = model(**batch(processor, pictures, count=3))
    expected.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    pack_attention(model.language_model)
    found = model(**packed(plain)(rows))
    found.loss.backward()
    assert torch.allclose(found.loss, expected.loss, atol=1e-6)
    for name, parameter in model.named_parameters():
        if name in gradients:
            assert torch.allclose(parameter.grad, gradients[name], atol=1e-6), name


def test_a_packed_run_learns_the_same_and_goes_on_bit_for_bit(
    make_recipe: MakeRecipe, parts: Path, data: Path, tmp_path: Path
) -> None:
    stage = {**recipe_data(parts)["stages"][0], "packing": True}
    recipe = make_recipe("training.activation_checkpointing=true", stages=[stage])
    train(recipe, tmp_path / "packed", data_dir=data)
    side = make_recipe(stages=[{**stage, "packing": False}])
    train(side, tmp_path / "side", data_dir=data)
    packed_losses = losses(tmp_path / "packed" / "align")
    assert packed_losses == pytest.approx(losses(tmp_path / "side" / "align"), abs=1e-4)
    out = tmp_path / "packed" / "align"
    (out / "results.json").unlink()
    (out / "checkpoint-4").rename(tmp_path / "before")
    train(recipe, tmp_path / "packed", data_dir=data, resume=True)
    assert same_weights(out / "checkpoint-4", tmp_path / "before")
    state = json.loads((out / "checkpoint-4" / "data_state.json").read_text())
    assert state["samples_seen"] == 16


@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_the_attention_of_the_recipe_is_that_of_packed_rows(
    make_recipe: MakeRecipe, parts: Path, data: Path, tmp_path: Path, name: str
) -> None:
    stage = {**recipe_data(parts)["stages"][0], "packing": True}
    recipe = make_recipe(f"attention={name}", "training.bf16=true", stages=[stage])
    trainer, _ = Stage(recipe, recipe.stages[0], RunOptions(tmp_path, data)).prepare()
    language: Any = trainer.model
    assert language.language_model.config._attn_implementation == f"packed_{name}"


def prompted(parts: Path) -> dict[str, Any]:
    """A model with adapter prompts."""
    block = tiny.model_block(parts, encoders=("clip",))
    fusion = {"name": "llama_adapter_v2", "queries": 2, "width": 16, "heads": 2, "depth": 1}
    encoder = {**block["encoders"][0], "levels": [3]}
    return {**block, "encoders": [encoder], "fusion": fusion, "bridge": {"name": "adapter_prompts"}}


def idle(parts: Path) -> dict[str, Any]:
    """A model without its language model."""
    block = tiny.model_block(parts)
    return {**block, "language": {**block["language"], "idle": True}}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (idle, "built without its language model"),
        (lambda p: lion_block(p, "t5"), r"align\.packing: an encoder-decoder.*group_by_length"),
        (lambda p: lion_block(p, "llama"), "adapters are chosen for whole rows"),
        (prompted, "prompts belong to whole rows"),
    ],
)
def test_what_cannot_be_packed_is_refused_with_what_to_do(
    make_recipe: MakeRecipe, parts: Path, model: Any, message: str
) -> None:
    stage = {**recipe_data(parts)["stages"][0], "train": {"fusion": True}, "packing": True}
    with pytest.raises(RecipeError, match=message):
        inspect_recipe(make_recipe(model=model(parts), stages=[stage]))


def test_grouping_by_length_leaves_less_padding_and_goes_on_bit_for_bit(
    make_recipe: MakeRecipe, parts: Path, data: Path, tmp_path: Path
) -> None:
    stage = {**recipe_data(parts)["stages"][0], "name": "s"}
    grouped = make_recipe("training.train_sampling_strategy=group_by_length", stages=[stage])
    waste = {}
    for name, recipe in (("grouped", grouped), ("random", make_recipe(stages=[stage]))):
        options = RunOptions(tmp_path / f"{name}-look", data)
        trainer, _ = Stage(recipe, recipe.stages[0], options).prepare()
        batches = [b["input_ids"] for b in trainer.get_train_dataloader()]
        waste[name] = sum(int((ids == 0).sum()) for ids in batches[:3])  # one epoch
    assert waste["grouped"] < waste["random"]
    train(grouped, tmp_path / "out", data_dir=data)
    out = tmp_path / "out" / "s"
    (out / "results.json").unlink()
    (out / "checkpoint-4").rename(tmp_path / "before")
    train(grouped, tmp_path / "out", data_dir=data, resume=True)
    assert same_weights(out / "checkpoint-4", tmp_path / "before")


def test_orders_that_contradict_each_other_are_refused(
    make_recipe: MakeRecipe, parts: Path
) -> None:
    stage = {**recipe_data(parts)["stages"][0], "mixture": "alternate"}
    with pytest.raises(RecipeError, match="do not go together"):
        make_recipe("training.train_sampling_strategy=group_by_length", stages=[stage])
    with pytest.raises(RecipeError, match=r"'group_by_lenght' is not one of .*did you mean"):
        make_recipe("training.train_sampling_strategy=group_by_lenght")
