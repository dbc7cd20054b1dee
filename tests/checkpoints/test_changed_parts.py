"""Light checkpoints hold what differs from the parts' own checkpoints, however it came about."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from whole_model import Build, Pictures, batch


def stored(folder: Path) -> set[str]:
    """The tensors of a light checkpoint that belong to a part."""
    names = load_file(folder / "model.safetensors")
    return {name for name in names if name.startswith(("encoders.", "language_model."))}


@torch.no_grad()
def logits(model: Any, rows: dict[str, Tensor]) -> Tensor:
    found: Tensor = model.eval()(**rows).logits
    return found


def merge_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2, target_modules=r".*\.(q_proj|v_proj)", init_lora_weights=False, lora_dropout=0.0
    )
    return get_peft_model(model, config).merge_and_unload()


def load_state(model: Any) -> Any:
    changed = {n: x + 0.25 for n, x in model.state_dict().items() if "layers.1.mlp" in n}
    model.load_state_dict(changed, strict=False)
    return model


@torch.no_grad()
def change_a_buffer(model: Any) -> Any:
    """What trains without gradients, such as the means of a batch norm."""
    embeddings = model.encoders["clip"].backbone
    for name, buffer in embeddings.named_buffers():
        if name in embeddings.state_dict():
            buffer.add_(1)
    embeddings.embeddings.class_embedding.data += 1.0
    return model


def train_and_freeze(model: Any) -> Any:
    head = model.language_model.lm_head.weight
    head.requires_grad_(True)
    with torch.no_grad():
        head.mul_(1.5)
    head.requires_grad_(False)
    return model


def replace_a_parameter(model: Any) -> Any:
    """Under a name that published files write otherwise."""
    weights = model.encoders["dinov2"].backbone.state_dict()
    name = next(name for name in weights if "layer.3." in name and "q_proj.weight" in name)
    layer = model.encoders["dinov2"].backbone.get_submodule(name.removesuffix(".weight"))
    layer.weight = nn.Parameter(torch.eye(16), requires_grad=False)
    return model


CHANGES = {
    "merge_and_unload": (merge_lora, "_proj.weight"),
    "load_state_dict": (load_state, "layers.1.mlp"),
    "without gradients": (change_a_buffer, "class_embedding"),
    "frozen before saving": (train_and_freeze, "lm_head"),
    "replaced": (replace_a_parameter, "q_proj.weight"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_changed_by_other_means_than_training_is_stored(
    build: Build, pictures: Pictures, tmp_path: Path, how: str
) -> None:
    change, word = CHANGES[how]
    model, processor = build()
    model.requires_grad_(False)
    rows = batch(processor, pictures)
    plain = logits(model, rows)
    model = change(model)
    model.requires_grad_(False)
    expected = logits(model, rows)
    assert not torch.equal(plain, expected)
    for place in ("first", "second"):
        model.save_pretrained(tmp_path / place)
        names = stored(tmp_path / place)
        assert names
        assert {name for name in names if word not in name} == set()
        model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / place)
        assert torch.equal(logits(model, rows), expected)
        model.requires_grad_(False)


def test_a_change_after_a_first_saving_is_stored_in_the_next(build: Build, tmp_path: Path) -> None:
    model, _ = build()
    model.requires_grad_(False)
    model.save_pretrained(tmp_path / "first")
    assert stored(tmp_path / "first") == set()
    with torch.no_grad():
        model.language_model.model.norm.weight.add_(1.0)
    model.save_pretrained(tmp_path / "second")
    assert stored(tmp_path / "second") == {"language_model.model.norm.weight"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_alone_is_no_change(build: Build, tmp_path: Path, dtype: Any) -> None:
    model, _ = build()
    model = model.to(dtype)
    model.requires_grad_(False)
    model.save_pretrained(tmp_path)
    assert stored(tmp_path) == set()
    with torch.no_grad():
        model.language_model.model.norm.weight.add_(1.0)
    model.save_pretrained(tmp_path)
    assert stored(tmp_path) == {"language_model.model.norm.weight"}


@pytest.mark.parametrize("lost", ["gone", "another"])
def test_a_part_whose_checkpoint_is_lost_is_stored_as_a_whole(
    pictures: Pictures, tmp_path: Path, lost: str
) -> None:
    parts = tiny.save_parts(tmp_path / "parts")
    config = ManyEyesConfig(**tiny.model_block(parts))
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    model.requires_grad_(False)
    rows = batch(processor, pictures)
    expected = logits(model, rows)
    if lost == "gone":
        shutil.rmtree(parts / "clip")
    else:
        tiny.save_clip(parts / "clip", seed=99)
    model.save_pretrained(tmp_path / "m")
    assert {name.split(".")[1] for name in stored(tmp_path / "m")} == {"clip"}
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    assert set(again.config.references) == {"encoders.dinov2.backbone", "language_model"}
    assert torch.equal(logits(again, rows), expected)


def test_saving_draws_no_random_numbers(build: Build, tmp_path: Path) -> None:
    """Or training would depend on how often, and by how many processes, it is saved."""
    model, _ = build()
    before = torch.get_rng_state()
    model.save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
