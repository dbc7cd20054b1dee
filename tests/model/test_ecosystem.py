"""Pipelines, PEFT and half precision over the whole model."""

from __future__ import annotations

from pathlib import Path

import torch

from whole_model import Build, Pictures, batch, freeze, prompts


def test_pipeline_image_text_to_text(build: Build, pictures: Pictures, tmp_path: Path) -> None:
    from transformers import pipeline

    model, processor = build()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    pipe = pipeline("image-text-to-text", model=str(tmp_path), device="cpu")
    content = [{"type": "image", "image": pictures[0]}, {"type": "text", "text": "What?"}]
    out = pipe(
        text=[{"role": "user", "content": content}], max_new_tokens=4, return_full_text=False
    )
    inputs = processor.answer_inputs(prompts(processor, "What?"), pictures[:1])
    ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    new = ids[0, inputs["input_ids"].shape[1] :]
    assert out[0]["generated_text"] == processor.tokenizer.decode(new, skip_special_tokens=True)


def test_peft_lora_on_the_language_model(build: Build, pictures: Pictures, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)  # of the adapters' first weights
    model, processor = build()
    rows = batch(processor, pictures)
    config = LoraConfig(r=2, target_modules=r"language_model\..*\.(q_proj|v_proj)")
    tuned = get_peft_model(model, config)
    tuned.train()
    optimizer = torch.optim.SGD((p for p in tuned.parameters() if p.requires_grad), lr=1.0)
    first = tuned(**rows).loss
    for _ in range(3):
        optimizer.zero_grad()
        loss = tuned(**rows).loss
        loss.backward()
        optimizer.step()
    assert float(tuned(**rows).loss.detach()) < float(first.detach())
    tuned.eval()
    tuned.save_pretrained(tmp_path)
    inputs = processor.answer_inputs(prompts(processor, "a"), pictures[:1])
    before = tuned.generate(**inputs, max_new_tokens=3, do_sample=False)
    fresh, _ = build()
    again = PeftModel.from_pretrained(fresh, tmp_path)
    after = again.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert torch.equal(before, after)


def test_bfloat16_and_checkpointing_run(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    model = model.to(torch.bfloat16)
    model.activation_checkpointing_enable()
    freeze(model, "encoders.")
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    assert all(p.grad is not None for p in model.fusion.parameters())
