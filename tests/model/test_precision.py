"""bfloat16 where the machine has it, float32 elsewhere."""

from __future__ import annotations

import platform

import pytest
import torch

from manyeyes.model import precision
from manyeyes.model.precision import CPU, autocast, bfloat16_pays, computed_in
from manyeyes.recipes.training_fields import check_training, on_this_machine


def pretend(monkeypatch: pytest.MonkeyPatch, machine: str, library: bool, instructions: bool):
    precision._cpu_has_bfloat16.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.fixture(autouse=True)
def forget():
    yield
    precision._cpu_has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("machine", "library", "instructions", "pays"),
    [
        ("x86_64", True, True, True),
        ("x86_64", True, False, False),  # AVX512 without BF16: emulated
        ("AMD64", False, False, False),
        ("aarch64", True, False, True),
        ("aarch64", False, False, False),
    ],
)
def test_bfloat16_pays_where_the_processor_has_instructions_for_it(
    monkeypatch, machine, library, instructions, pays
) -> None:
    pretend(monkeypatch, machine, library, instructions)
    assert bfloat16_pays(CPU) is pays
    assert computed_in(CPU) == ("bf16 autocast" if pays else "fp32")
    with autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if pays else torch.float32)
    said = check_training({"bf16": "auto"}, "training")
    assert said == {"bf16": "auto"}
    assert on_this_machine(said) == {"bf16": pays}


def test_bf16_may_be_demanded() -> None:
    assert check_training({"bf16": True}, "training") == {"bf16": True}
