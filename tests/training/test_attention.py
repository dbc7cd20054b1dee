"""Plain attention is chosen only where it trains faster, and changes nothing but speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import TrainingArguments

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.records import Sample, Turn
from manyeyes.training import kernels
from manyeyes.training.kernels import choose_attention

Build = Callable[..., tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]]


def arguments(folder: Path, **fields: Any) -> TrainingArguments:
    return TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True, **fields)


def implementation(model: ManyEyesForConditionalGeneration) -> str:
    return str(model.language_model.config._attn_implementation)


def test_plain_attention_for_short_sequences_in_bfloat16(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = build()
    choose_attention(model, arguments(tmp_path))
    assert implementation(model) == "sdpa"
    monkeypatch.setattr(kernels, "LONGEST_PLAIN", 15)
    choose_attention(model, arguments(tmp_path, bf16=True))
    assert implementation(model) == "sdpa"
    monkeypatch.setattr(kernels, "LONGEST_PLAIN", 16)
    choose_attention(model, arguments(tmp_path, bf16=True))
    assert implementation(model) == "eager"
    assert {
        block.self_attn.config._attn_implementation for block in model.language_model.model.layers
    } == {"eager"}


def test_loss_and_gradients_stay_and_the_choice_is_not_saved(
    build: Build, pictures: list[Image.Image], tmp_path: Path
) -> None:
    model, processor = build()
    rows = [
        processor.encode(
            Sample("a", ("x",), (Turn("user", "<image>\nwhat"), Turn("assistant", text))), [image]
        )
        for text, image in zip(("a dog", "two"), pictures, strict=False)
    ]
    batch = processor.collate(rows)
    found = []
    for chosen in (False, True):
        if chosen:
            choose_attention(model, arguments(tmp_path, bf16=True))
        model.zero_grad()
        loss = model.train()(**batch).loss
        loss.backward()
        found.append((loss.detach(), model.fusion.get_submodule("projector")[0].weight.grad))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)
    model.eval().save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    assert implementation(again) == "sdpa"
