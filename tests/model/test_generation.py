"""Generation over the whole model: cache, batches, beams, streaming, shared images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manyeyes.records import Turn
from whole_model import Build, Pictures, batch, prompts


def test_comm_check_23_cache_changes_nothing_and_encoders_run_once(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    calls = []
    for encoder in model.encoders.values():
        encoder.register_forward_hook(lambda *_: calls.append(1))
    inputs = processor.answer_inputs(prompts(processor, "what?"), pictures[:1])
    cached = model.generate(**inputs, max_new_tokens=8, do_sample=False, use_cache=True)
    assert len(calls) == len(model.encoders)
    plain = model.generate(**inputs, max_new_tokens=8, do_sample=False, use_cache=False)
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 3}])
def test_a_batch_answers_like_each_sample_alone(
    build: Build, pictures: Pictures, arguments: dict[str, int]
) -> None:
    model, processor = build()
    texts = prompts(processor, "what?", "a much longer question?", "hm")
    keep = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **arguments}
    inputs = processor.answer_inputs(texts, pictures)
    together = model.generate(**inputs, **keep)[:, inputs["input_ids"].shape[1] :]
    for index, text in enumerate(texts):
        single = processor.answer_inputs([text], [pictures[index]])
        alone = model.generate(**single, **keep)[:, single["input_ids"].shape[1] :]
        assert torch.equal(together[index : index + 1], alone)


def test_generate_returns_the_prompt_first(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    inputs = processor.answer_inputs(prompts(processor, "a", "b"), pictures[:2])
    torch.manual_seed(0)
    ids = model.generate(
        **inputs, max_new_tokens=4, do_sample=True, num_return_sequences=3, repetition_penalty=1.2
    )
    assert ids.shape[0] == 6
    length = inputs["input_ids"].shape[1]
    assert torch.equal(ids[:, :length], inputs["input_ids"].repeat_interleave(3, dim=0))


def test_many_questions_share_one_encoding(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    texts = prompts(processor, "a?", "bb?", "ccc?")
    inputs = processor.answer_inputs(texts, [pictures[0]] * 3)
    repeated = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    evidence = model.encode_images(**processor.pixels(pictures[:1]))
    shared = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        evidence=evidence,
        image_index=torch.zeros(3, dtype=torch.long),
        max_new_tokens=5,
        do_sample=False,
    )
    assert torch.equal(repeated, shared)


def test_streaming_gives_the_same_text(build: Build, pictures: Pictures) -> None:
    from transformers import TextStreamer

    class Collect(TextStreamer):
        text = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.text += text

    model, processor = build()
    inputs = processor.answer_inputs(prompts(processor, "what?"), pictures[:1])
    streamer = Collect(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    ids = model.generate(**inputs, max_new_tokens=8, do_sample=False, streamer=streamer)
    new = ids[0, inputs["input_ids"].shape[1] :]
    assert streamer.text == processor.tokenizer.decode(new, skip_special_tokens=True)


def test_conversations_with_several_images_and_none(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    texts = [
        processor.prompt([Turn("user", "<image> and <image>: same?")]),
        processor.prompt([Turn("user", "hello")]),
    ]
    inputs = processor.answer_inputs(texts, pictures[:2])
    assert inputs["image_counts"].tolist() == [2, 0]
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 2


def test_encoder_decoder_models_train_and_answer(
    parts: Path, build: Build, pictures: Pictures
) -> None:
    model, processor = build(language={"checkpoint": str(parts / "t5")}, prompt_style="plain")
    rows = batch(processor, pictures)
    model.train()
    output = model(**rows)
    output.loss.backward()
    assert all(p.grad is not None for p in model.fusion.parameters())
    assert output.logits.shape[0] == int((rows["labels"] != -100).sum())
    inputs = processor.answer_inputs(prompts(processor, "a?", "bbb?"), pictures[:2])
    model.eval()
    together = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    single = processor.answer_inputs(prompts(processor, "a?"), pictures[:1])
    alone = model.generate(**single, max_new_tokens=5, do_sample=False)
    assert torch.equal(together[:1, : alone.shape[1]], alone)
