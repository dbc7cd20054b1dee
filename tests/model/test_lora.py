"""LoRA of a whole model: what it changes, what a checkpoint holds, merging, PEFT's own format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lora_parts import answers, updates, with_lora
from manyeyes import ManyEyesForConditionalGeneration
from manyeyes.errors import CheckpointError, PartError, RecipeError, UsageError
from manyeyes.layers.adapters.lora import LoraOptions
from manyeyes.model.lora import add_lora, merge_lora, write_adapter
from whole_model import Build, Pictures, batch

CLOSE = 1e-5


@pytest.fixture
def rows(build: Build, pictures: Pictures) -> dict[str, Tensor]:
    _, processor = build()
    return batch(processor, pictures)


def test_fresh_lora_changes_nothing_and_its_start_is_the_seeds(
    build: Build, rows: dict[str, Tensor]
) -> None:
    model, _ = build()
    plain = answers(model, rows)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    add_lora(model, "language_model", LoraOptions(rank=2), seed=3)
    assert torch.equal(torch.rand(1), expected)  # nobody else's random numbers were drawn
    assert torch.equal(answers(model, rows), plain)
    again, _ = build()
    add_lora(again, "language_model", LoraOptions(rank=2), seed=3)
    one, other = model.state_dict(), again.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in updates(one))
    head = [name for name in updates(one) if "lm_head" in name]
    assert len(updates(one)) == 2 * 2 * 7 and not head


@pytest.mark.parametrize("dora", [False, True])
def test_a_light_checkpoint_holds_the_updates_and_loads_to_the_same_answers(
    build: Build, rows: dict[str, Tensor], tmp_path: Path, dora: bool
) -> None:
    model, _ = build()
    two = LoraOptions(rank=2, dora=dora)
    one = LoraOptions(rank=1, targets=("q_proj",))
    with_lora(model, language_model=two, encoders__clip=one)
    expected = answers(model, rows)
    model.save_pretrained(tmp_path / "light")
    stored = load_file(tmp_path / "light" / "model.safetensors")
    of_parts = {n for n in stored if n.startswith(("language_model.", "encoders."))}
    assert of_parts == updates(model.state_dict())
    loaded = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "light")
    assert torch.equal(answers(loaded, rows), expected)
    loaded.requires_grad_(False)
    merge_lora(loaded)
    assert not updates(loaded.state_dict()) and loaded.config.lora == {}
    assert torch.allclose(answers(loaded, rows), expected, atol=CLOSE)
    loaded.save_pretrained(tmp_path / "merged")
    names = load_file(tmp_path / "merged" / "model.safetensors")
    assert "language_model.model.layers.0.mlp.up_proj.weight" in names
    assert "language_model.model.embed_tokens.weight" not in names  # its checkpoint has it
    merged = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "merged")
    assert torch.equal(answers(merged, rows), answers(loaded, rows))


def test_what_is_trained_beside_lora_is_in_the_same_checkpoint(
    build: Build, rows: dict[str, Tensor], tmp_path: Path
) -> None:
    model, _ = build()
    with_lora(model, language_model=LoraOptions(rank=2))
    with torch.no_grad():
        model.language_model.model.layers[0].self_attn.q_proj.base_layer.weight.add_(0.1)
        next(model.fusion.parameters()).add_(0.1)
    expected = answers(model, rows)
    model.save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    base = "language_model.model.layers.0.self_attn.q_proj.base_layer.weight"
    assert base in names and names - {base} >= updates(names)
    assert len([name for name in names if "base_layer" in name]) == 1
    loaded = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(answers(loaded, rows), expected)


def test_a_kept_adapter_is_read_by_peft(
    build: Build, rows: dict[str, Tensor], tmp_path: Path
) -> None:
    from peft import PeftModel

    model, _ = build()
    three = LoraOptions(rank=3, alpha=5, targets=("q_proj",))
    with_lora(model, language_model=LoraOptions(rank=2), encoders__clip=three)
    expected = answers(model, rows)
    write_adapter(model, tmp_path / "adapter")
    assert not updates(model.state_dict())
    model.save_pretrained(tmp_path)
    plain = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    assert not torch.allclose(answers(plain, rows), expected)
    tuned: Any = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
    assert torch.allclose(answers(tuned, rows), expected, atol=CLOSE)


def test_an_adapter_that_is_not_there_or_that_peft_cannot_say(build: Build, tmp_path: Path) -> None:
    model, _ = build()
    with pytest.raises(UsageError, match="carries no LoRA"):
        write_adapter(model, tmp_path / "a")
    with_lora(model, language_model=LoraOptions(rank=2, dora=True), encoders__clip=LoraOptions())
    with pytest.raises(UsageError, match="differ in dora"):
        write_adapter(model, tmp_path / "a")


def test_prompts_that_read_keys_without_lora_are_not_merged(build: Build) -> None:
    bridge = {"name": "adapter_prompts"}
    fusion = {"name": "llama_adapter_v2", "queries": 2, "width": 16, "heads": 2, "depth": 1}
    encoder = {**build()[0].config.encoders[0], "levels": [3]}
    model, _ = build(bridge=bridge, fusion=fusion, encoders=[encoder], prompt_style="alpaca")
    with_lora(model, language_model=LoraOptions(rank=2, targets=("k_proj",)))
    with pytest.raises(PartError, match=r"k_proj.*--keep-adapter"):
        merge_lora(model)
    other, _ = build(bridge=bridge, fusion=fusion, encoders=[encoder], prompt_style="alpaca")
    with_lora(other, language_model=LoraOptions(rank=2, targets=("q_proj", "o_proj")))
    merge_lora(other)


@pytest.mark.parametrize(
    ("part", "options", "error", "message"),
    [
        ("language", {}, RecipeError, r"not on 'language' \(did you mean 'language_model'"),
        ("fusion", {}, RecipeError, "not on 'fusion'"),
        ("language_model", {"targets": ("q_prj",)}, RecipeError, r"'q_prj'.*did you mean 'q_proj'"),
        ("language_model", {"targets": ("lm_head",)}, RecipeError, "output head"),
        ("language_model", {"rank": 0}, RecipeError, "lora.rank"),
        ("language_model", {"dropout": 1.0}, RecipeError, "lora.dropout"),
        ("language_model", {"alpha": 0.0}, RecipeError, "lora.alpha"),
        ("language_model", {"targets": ()}, RecipeError, "lora.targets"),
    ],
)
def test_bad_input_is_named(
    build: Build, part: str, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        add_lora(build()[0], part, LoraOptions(**options))


def test_updates_that_are_no_numbers_are_not_merged(build: Build) -> None:
    model, _ = build()
    with_lora(model, language_model=LoraOptions(rank=2))
    with torch.no_grad():
        model.language_model.model.layers[1].mlp.up_proj.lora_B.default.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj: LoRA is not finite"):
        merge_lora(model)


def test_without_peft_the_package_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"manyeyes\[peft\]"):
        add_lora(build()[0], "language_model", LoraOptions())
