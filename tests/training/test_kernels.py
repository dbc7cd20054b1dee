"""Attention, compilation and Liger's kernels: they change speed alone, or say why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, TrainingArguments

from manyeyes.errors import RecipeError
from manyeyes.language import IdleLanguage
from manyeyes.recipes import Recipe, StageRecipe
from manyeyes.training import arguments, kernels, train
from manyeyes.training.arguments import training_arguments
from manyeyes.training.kernels import speed_up
from training_runs import largest_difference, losses

MakeRecipe = Callable[..., Recipe]


def stage(**training: Any) -> StageRecipe:
    return StageRecipe(
        name="s",
        train={"fusion": True},
        data=[{"path": "x"}],
        training={"report_to": "none", **training},
    )


def made(folder: Path, **training: Any) -> TrainingArguments:
    return training_arguments(stage(**training), folder, seed=0, epoch_length=10)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own
def test_a_compiled_language_model_trains_alike(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    compiled = ("training.torch_compile=true", "training.torch_compile_backend=eager")
    for name, settings in (("plain", ()), ("compiled", compiled)):
        train(make_recipe(*settings), tmp_path / name, data_dir=data, stage="align")
    plain, compiled_run = tmp_path / "plain", tmp_path / "compiled"
    assert losses(compiled_run / "align") == pytest.approx(losses(plain / "align"), rel=1e-5)
    # a step moves a weight by up to the learning rate, 1e-3; graphs sum in another order
    assert largest_difference(plain / "model", compiled_run / "model") < 1e-5


def test_the_language_model_is_what_is_compiled(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Language:
        def compile(self, **options: Any) -> None:
            seen.update(options)

    training = {"torch_compile": True, "torch_compile_mode": "reduce-overhead"}
    args = made(tmp_path, **training)
    assert not args.torch_compile
    speed_up(Language(), args, {})
    assert not seen
    speed_up(Language(), args, training)
    assert seen == {"backend": "inductor", "mode": "reduce-overhead"}


def test_tf32_is_on_where_bf16_trains_and_there_is_such_a_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made(tmp_path, bf16=True).tf32 is None
    switched: list[bool] = []
    for module in ("manyeyes.training.arguments", "transformers.training_args"):
        monkeypatch.setattr(f"{module}.is_torch_tf32_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.enable_tf32", switched.append)
    assert made(tmp_path).tf32 is None
    assert made(tmp_path, bf16=True, tf32=False).tf32 is False
    assert made(tmp_path, bf16=True).tf32 is True
    assert switched == [False, True]


def test_liger_is_refused_without_a_gpu_or_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=r"stages\.s\.training\.use_liger_kernel: .* on a GPU"):
        made(tmp_path, use_liger_kernel=True, use_cpu=True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install liger-kernel"):
        kernels.check_liger(stage(use_liger_kernel=True))


def test_liger_reaches_the_language_model_and_leaves_the_loss_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(kernels, "apply_liger_kernel", lambda *given: seen.extend(given))
    monkeypatch.setattr(arguments, "check_liger", lambda stage: None)
    args = made(tmp_path, use_liger_kernel=True, liger_kernel_config={"rope": False})
    speed_up("the language model", args, {})
    assert seen[0] == "the language model"
    assert seen[1] == {"cross_entropy": False, "fused_linear_cross_entropy": False, "rope": False}
    assert not args.use_liger_kernel


def test_an_attention_that_is_not_installed_is_named_before_the_first_step(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"attention: flash_attention_2 cannot be used here"):
        train(make_recipe("attention=flash_attention_2"), tmp_path / "out", data_dir=data)
    assert not list(tmp_path.rglob("checkpoint-*"))


@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_the_language_model_attends_as_the_recipe_says(name: str, make_recipe: MakeRecipe) -> None:
    seen: list[str] = []

    class Model:
        class config:
            class given:
                prompts = 0

        class language_model:
            set_attn_implementation = seen.append

    kernels.set_attention(Model, make_recipe())
    assert not seen
    kernels.set_attention(Model, make_recipe(f"attention={name}"))
    assert seen == [name]
    Model.config.given.prompts = 3
    with pytest.raises(RecipeError, match="adapter prompts need sdpa or eager"):
        kernels.set_attention(Model, make_recipe("attention=flash_attention_3"))


def test_a_stage_without_its_language_model_has_nothing_that_attends(
    make_recipe: MakeRecipe,
) -> None:
    seen: list[str] = []

    class Model:
        language_model = IdleLanguage(LlamaConfig())

    Model.language_model.__dict__["set_attn_implementation"] = seen.append
    kernels.set_attention(Model, make_recipe("attention=eager"))
    assert not seen
