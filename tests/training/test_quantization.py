"""Frozen weights in four bits: where bitsandbytes is, and a clear error where it is not."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_parts import lora_stage, updates
from manyeyes.errors import RecipeError
from manyeyes.recipes import Recipe
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.training import quantization, train
from training_runs import same_weights, weights

MakeRecipe = Callable[..., Recipe]
NF4 = {"quantization": {"language": "nf4"}}
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes"
)


def test_without_bitsandbytes_the_package_is_named(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"manyeyes\[qlora\].*quantization=\{\}"):
        train(make_recipe(stages=[lora_stage()], **NF4), tmp_path / "out", data_dir=data)
    assert not (tmp_path / "out").exists()


def test_a_backend_that_does_not_compute_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_kernel(*args: Any) -> Any:
        raise NotImplementedError("no kernel for this device")

    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(quantization, "_four_bits", no_kernel)
    with pytest.raises(RecipeError, match=r"does not compute on cpu here \(no kernel"):
        quantization.check_backend({"language": "nf4"})


@pytest.mark.parametrize(
    ("train_block", "changes", "message"),
    [
        ({"language": True}, NF4, r"q_proj\.weight is trained, and four bits cannot learn"),
        ({"fusion": True}, {"quantization": {"langage": "nf4"}}, r"langage.*'language'"),
    ],
)
def test_what_cannot_be_quantised_is_refused(
    make_recipe: MakeRecipe, train_block: Any, changes: Any, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        inspect_recipe(make_recipe(stages=[lora_stage(train=train_block)], **changes))


def test_unknown_kinds_and_shards_are_refused(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="nf4"):
        make_recipe(stages=[lora_stage()], quantization={"language": "int3"})
    monkeypatch.setattr("manyeyes.training.run.check_backend", lambda kinds: None)
    recipe = make_recipe("training.fsdp=true", stages=[lora_stage()], **NF4)
    with pytest.raises(RecipeError, match=r"align\.training\.fsdp: weights in four bits"):
        train(recipe, tmp_path / "out", data_dir=data)


def test_check_counts_four_bits(make_recipe: MakeRecipe) -> None:
    stages = [lora_stage(train={"fusion": True})]
    plain = inspect_recipe(make_recipe(stages=stages)).stages[0].memory["float32"].weights
    packed = inspect_recipe(make_recipe(stages=stages, **NF4)).stages[0].memory["float32"].weights
    linear = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert plain - packed == pytest.approx(linear * (4 - 4.127 / 8), abs=1)


@needs_bitsandbytes
def test_qlora_trains_goes_on_and_is_stored_as_lora_on_the_checkpoint(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(stages=[lora_stage()], **NF4)
    train(recipe, tmp_path / "whole", data_dir=data)
    found = weights(tmp_path / "whole" / "model")
    assert {n for n in found if n.startswith("language_model.")} == updates(found)
    assert all(bool(torch.isfinite(x).all()) for x in found.values())
    out = tmp_path / "out"
    train(recipe, out, data_dir=data)
    (out / "align" / "results.json").unlink()
    (out / "align" / "checkpoint-4" / "trainer_state.json").unlink()
    train(recipe, out, data_dir=data, resume=True)
    assert same_weights(out / "model", tmp_path / "whole" / "model")
    plain = make_recipe(stages=[lora_stage()])
    train(plain, tmp_path / "plain", data_dir=data)
    assert not same_weights(tmp_path / "plain" / "model", tmp_path / "whole" / "model")


@needs_bitsandbytes
def test_weights_that_an_earlier_stage_trained_are_not_quantised(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    first = lora_stage(name="first", train={"language": True}, training={"max_steps": 1})
    train(make_recipe(stages=[first, lora_stage()]), tmp_path / "out", data_dir=data, stage="first")
    (tmp_path / "out" / "recipe.yaml").unlink()
    recipe = make_recipe(stages=[first, lora_stage()], **NF4)
    with pytest.raises(RecipeError, match=r"is not that of its part's checkpoint"):
        train(recipe, tmp_path / "out", data_dir=data, stage="align")
