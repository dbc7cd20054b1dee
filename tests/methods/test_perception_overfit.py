"""The world's language model learns to answer from perception text alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.recipes import load_recipe
from manyeyes.records import Sample, Turn
from rectangles import IMAGES, SIDE, scene

MOST_STEPS = 800


def samples(shift: float = 0.0) -> list[Sample]:
    found = []
    for number in range(IMAGES):
        objects, answers = scene(number, shift)
        for question, answer in answers.items():
            turns = (Turn("user", f"<image>\n{question}"), Turn("assistant", answer))
            found.append(Sample(f"{number}", ("x",), turns, objects=(objects,)))
    return found


def correct(model: Any, processor: Any, asked: list[Sample]) -> float:
    """Share of right answers; all pictures are the same, so that the text alone tells."""
    prompts = [
        processor.prompt(s.turns[:1], image_sizes=[(SIDE, SIDE)], perceived=s.perceived)
        for s in asked
    ]
    blank = [Image.new("RGB", (SIDE, SIDE), "white")] * len(asked)
    inputs = processor.answer_inputs(prompts, blank)
    ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    texts = processor.tokenizer.batch_decode(
        ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    right = [t.strip() == s.turns[1].text for t, s in zip(texts, asked, strict=True)]
    return sum(right) / len(right)


@pytest.mark.slow
def test_mr_mllm_check_24_answers_come_from_the_perception_text() -> None:
    recipe = load_recipe("llama-adapter-v2/world").model
    config = ManyEyesConfig(**{**recipe, "perception_text": {}})
    processor = ManyEyesProcessor.from_config(config)
    model: Any = ManyEyesForConditionalGeneration.from_parts(config, dtype=torch.float32)
    every = samples()
    blank = Image.new("RGB", (SIDE, SIDE), "white")
    rows = processor.collate([processor.encode(sample, [blank]) for sample in every])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("language_model."))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=3e-4)  # larger steps wipe out how it reads
    for _ in range(MOST_STEPS):
        model.train()
        loss = model(**rows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        if float(loss.detach()) < 0.002:
            break
    model.eval()
    assert correct(model, processor, every) == 1.0
    unseen = samples(shift=4.0)
    assert not {s.objects for s in unseen} & {s.objects for s in every}
    assert correct(model, processor, unseen) == 1.0
    # the image three places on has another count and the other side
    moved = [
        replace(s, objects=every[(place + 6) % len(every)].objects) for place, s in enumerate(every)
    ]
    assert correct(model, processor, moved) == 0.0
