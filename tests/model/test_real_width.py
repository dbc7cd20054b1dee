"""COMM at its real width on a CPU: one training step and one answer (random weights)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.records import Sample, Turn

LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}


@pytest.fixture(scope="module")
def small_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    tokenizer = tiny.byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_comm_trains_and_answers_at_real_width(small_llm: Path) -> None:
    config = ManyEyesConfig(
        encoders=[
            {
                "name": "clip",
                "family": "clip",
                "levels": "1-24",
                "image_size": 336,
                "backbone": {**LARGE, "intermediate_size": 4096, "image_size": 336},
            },
            {
                "name": "dinov2",
                "family": "dinov2",
                "levels": "19-24",
                "image_size": 336,
                "backbone": {**LARGE, "image_size": 518},
            },
        ],
        fusion={"name": "comm"},
        language={"checkpoint": str(small_llm)},
        prompt_style="vicuna_v1.1",
    )
    processor = ManyEyesProcessor.from_config(config)
    assert processor.visual_tokens == 576
    model = ManyEyesForConditionalGeneration.from_parts(config)
    model.encoders.requires_grad_(False)
    model.train()
    picture = Image.effect_noise((640, 480), 64).convert("RGB")
    turns = (Turn("user", "<image>\nWhat is it?"), Turn("assistant", "noise"))
    batch = processor.collate([processor.encode(Sample("0", ("x",), turns), [picture])])
    assert batch["pixel_values_clip"].shape == (1, 3, 336, 336)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    first = model(**batch).loss
    first.backward()
    assert all(p.grad is not None for p in model.fusion.parameters())
    assert all(p.grad is None for p in model.encoders.parameters())
    optimizer.step()
    with torch.no_grad():
        assert float(model(**batch).loss) < float(first.detach())
    model.eval()
    inputs = processor.answer_inputs([processor.prompt(turns[:1])], [picture])
    answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > inputs["input_ids"].shape[1] >= 578
