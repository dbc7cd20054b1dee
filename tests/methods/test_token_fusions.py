"""Fusions that fill placeholders, and have no page of tests of their own, in the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes.errors import PartError
from whole_model import Build, Pictures, batch, freeze, prompts

FUSIONS: dict[str, tuple[dict[str, Any], int]] = {
    "cross_attention": ({"name": "cross_attention", "heads": 2}, 16),
    "deepseek_hybrid": ({"name": "deepseek_hybrid", "high": "dinov2"}, 16),
    "interleaved": ({"name": "interleaved"}, 32),
    "sva": ({"name": "sva", "width": 16, "heads": 2, "groups": 2, "grid": [2, 2]}, 4),
}
"""Options and visual tokens: both encoders give 4 x 4 patches."""


def one_level(parts: Path, **dinov2: Any) -> list[dict[str, Any]]:
    clip, other = tiny.model_block(parts)["encoders"]
    return [{**clip, "levels": [-2]}, {**other, "levels": [-2], **dinov2}]


@pytest.mark.parametrize("name", FUSIONS)
def test_it_trains_is_saved_and_answers_the_same(
    name: str, build: Build, parts: Path, pictures: Pictures, tmp_path: Path
) -> None:
    fusion, count = FUSIONS[name]
    model, processor = build(encoders=one_level(parts), fusion=fusion)
    assert processor.visual_tokens == count
    freeze(model, "encoders.")
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    assert [n for n, p in model.fusion.named_parameters() if p.grad is None] == []
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    model.eval().save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")

    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    assert isinstance(again, ManyEyesForConditionalGeneration)
    reader = AutoProcessor.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        rows = batch(processor, pictures)
        assert torch.equal(again(**batch(reader, pictures)).logits, model(**rows).logits)
    inputs = processor.answer_inputs(prompts(processor, "a?", "a longer one?"), pictures[:2])
    written = model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert written.shape[1] == inputs["input_ids"].shape[1] + 5
    repeated = again.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert torch.equal(written, repeated)


def test_grids_that_differ_need_a_resampler_or_windows(parts: Path) -> None:
    def config(fusion: dict[str, Any], **dinov2: Any) -> ManyEyesConfig:
        block = {**tiny.model_block(parts), "encoders": one_level(parts, **dinov2)}
        return ManyEyesConfig(**{**block, "fusion": fusion}).resolve()

    interleaved = {"name": "interleaved"}
    with pytest.raises(PartError, match=r"clip 4x4, dinov2 8x8.*resample"):
        config(interleaved, image_size=32)
    assert config(interleaved, image_size=32, resample=[4, 4]).visual_tokens == 32
    assert config({"name": "sva"}, image_size=32).visual_tokens == 16
    with pytest.raises(PartError, match="query grid 4x4 does not divide the grid 7x7 of 'dinov2'"):
        config({"name": "sva"}, image_size=28)
