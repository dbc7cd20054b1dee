"""LoRA as a key of ``train``: what learns, resuming, stages that follow each other, bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_parts import lora_stage, updates
from manyeyes import ManyEyesForConditionalGeneration
from manyeyes.errors import RecipeError
from manyeyes.recipes import Recipe, load_recipe
from manyeyes.study.costs.arm import price_of
from manyeyes.study.costs.recipe import inspect_recipe
from manyeyes.training import train
from manyeyes.training.saving.folders import checkpoints
from manyeyes.training.trainer import StageTrainer
from training_runs import losses, recipe_data, same_weights, weights, write_recipe

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
LORA = {"rank": 2, "alpha": 4, "dropout": 0.2}


def following(**train: Any) -> dict[str, Any]:
    """A second stage."""
    return lora_stage(name="instruct", train=train, training={"max_steps": 1})


@pytest.fixture(scope="module")
def finished(
    parts: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Path]:
    """A recipe with one LoRA stage, and the folder of its run."""
    folder = tmp_path_factory.mktemp("lora")
    path = write_recipe(folder / "recipe.yaml", recipe_data(parts, stages=[lora_stage()]))
    recipe = load_recipe(path)
    train(recipe, folder / "out", data_dir=data)
    return recipe, folder / "out"


def test_updates_fusion_and_bridge_learn_and_lie_in_one_light_checkpoint(
    finished: tuple[Recipe, Path],
) -> None:
    recipe, out = finished
    first, last = (weights(path) for path in checkpoints(out / "align"))
    moved = {name for name in last if not torch.equal(first[name], last[name])}
    assert {n for n in moved if n.startswith("language_model.")} == updates(last)
    assert any(name.startswith("fusion.") for name in moved) and "bridge.image_end" in moved
    assert not [name for name in last if "base_layer" in name or name.startswith("encoders.")]
    found = ManyEyesForConditionalGeneration.from_pretrained(out / "model")
    assert found.config.lora["language_model"]["rank"] == 2
    assert load_recipe(out / "recipe.yaml") == recipe


def test_after_a_crash_a_run_with_lora_goes_on_bit_for_bit(
    finished: tuple[Recipe, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole = finished
    step = StageTrainer.training_step

    def crash(self: StageTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise RuntimeError("no power")
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no power"):
        patch.setattr(StageTrainer, "training_step", crash)
        train(recipe, tmp_path / "out", data_dir=data)
    assert [path.name for path in checkpoints(tmp_path / "out" / "align")] == ["checkpoint-2"]
    train(recipe, tmp_path / "out", data_dir=data, resume=True)
    assert same_weights(tmp_path / "out" / "model", whole / "model")
    assert losses(tmp_path / "out" / "align") == losses(whole / "align")


def test_later_stages_keep_merge_or_exchange_it(
    parts: Path, finished: tuple[Recipe, Path], data: Path, tmp_path: Path
) -> None:
    before = weights(finished[1] / "model")
    kept = {n: before[n] for n in updates(before)}
    other = {**LORA, "rank": 1}
    stages = {
        "frozen": following(fusion=True),
        "same": following(language={"lora": LORA}),
        "full": following(language=True),
        "other": following(language={"lora": other}),
        "started": following(fusion=True) | {"model": {"max_tokens": 500}},
    }
    found = {}
    for name, stage in stages.items():
        out = tmp_path / name
        shutil.copytree(finished[1], out)
        (out / "recipe.yaml").unlink()
        path = write_recipe(tmp_path / "r.yaml", recipe_data(parts, stages=[lora_stage(), stage]))
        train(load_recipe(path), out, data_dir=data, stage="instruct")
        found[name] = weights(out / "model")
    for name in ("frozen", "started"):
        assert all(torch.equal(found[name][n], tensor) for n, tensor in kept.items())
        assert updates(found[name]) == set(kept)
    assert updates(found["same"]) == set(kept)
    assert not all(torch.equal(found["same"][n], tensor) for n, tensor in kept.items())
    assert not updates(found["full"])
    assert "language_model.lm_head.weight" in found["full"]
    ranks = {x.shape[0] for n, x in found["other"].items() if "lora_A" in n}
    assert ranks == {1}
    merged = "language_model.model.layers.0.mlp.up_proj.base_layer.weight"
    assert merged in found["other"]  # the old update is in it


def test_check_counts_what_learns(parts: Path, tmp_path: Path) -> None:
    stages = [lora_stage(train={"language": {"lora": LORA}}), following(fusion=True)]
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", recipe_data(parts, stages=stages)))
    seen = inspect_recipe(recipe)
    # per block: q and o 32 x 32, k and v 32 -> 16, gate and up 32 -> 64, down 64 -> 32; rank 2
    per_block = 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert seen.trainable_by_stage["align"] == 2 * per_block
    assert seen.parts["language"].trainable_by_stage == {"align": 2 * per_block, "instruct": 0}
    assert seen.stages[0].memory["float32"].gradients == 4 * 2 * per_block
    price = price_of(recipe)
    assert price.trained == sum(seen.trainable_by_stage.values())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"fusion": {"lora": LORA}}, r"train\.fusion\.lora: LoRA goes on .*, not on 'fusion'"),
        ({"encoders.clp": {"lora": LORA}}, r"train\.encoders\.clp.*did you mean 'encoders\.clip'"),
        ({"language": {"lora": LORA}, "language.*": False}, r"train\.language\.lora: nothing"),
        (
            {"language": {"lora": {**LORA, "targets": ["q_prj"]}}},
            r"train\.language\.lora\.targets: 'q_prj' matches no linear layer.*'q_proj'",
        ),
    ],
)
def test_lora_that_cannot_be_is_refused_before_anything_runs(
    make_recipe: MakeRecipe, block: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        inspect_recipe(make_recipe(stages=[lora_stage(train=block)]))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"rnk": 2}, r"align\.train: language\.lora: unknown key 'rnk' \(did you mean 'rank'"),
        ({"rank": "two"}, r"lora\.rank: .two. is not a whole number"),
        (True, r"language\.lora: expected a block of keys, got True"),
        ({"dropout": 2}, r"lora\.dropout"),
    ],
)
def test_keys_of_lora_are_checked_with_the_recipe(
    make_recipe: MakeRecipe, block: Any, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(stages=[lora_stage(train={"language": {"lora": block}})])


def test_encoders_may_carry_it_too(make_recipe: MakeRecipe, data: Path, tmp_path: Path) -> None:
    block = {"encoders": {"learning_rate": 1e-2, "lora": {**LORA, "targets": ["q_proj", "query"]}}}
    recipe = make_recipe(stages=[lora_stage(train=block, training={"max_steps": 1})])
    with pytest.raises(RecipeError, match=r"'query' matches no linear layer"):
        inspect_recipe(recipe)
    block["encoders"]["lora"] = LORA
    recipe = make_recipe(stages=[lora_stage(train=block, training={"max_steps": 1})])
    train(recipe, tmp_path / "out", data_dir=data)
    found = weights(tmp_path / "out" / "model")
    assert {n.split(".")[1] for n in updates(found)} == {"clip", "dinov2"}
    moved = [n for n in updates(found) if "lora_B" in n and bool(found[n].any())]
    assert any(".clip." in name for name in moved) and any(".dinov2." in name for name in moved)
