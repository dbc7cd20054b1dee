"""X-Former and Q-Former inside the whole model: x-former.md §10 over tiny parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import image_text_parts as tiny_parts
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import DataError, PartError
from manyeyes.losses import OBJECTIVES
from manyeyes.recipes import WeightSource
from manyeyes.records import FusionText, Sample, Turn
from manyeyes.training.saving.weights import take_weights
from manyeyes.training.trainable import assign, freeze
from xformer_models import FIRST, FOUR, first_stage, gradients, make, needs, pairs, xformer

pytestmark = pytest.mark.long


# ---- the language model's side ---------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", ["blip2", "instructblip"])
def test_xformer_check_02_language_logits_equal_transformers(
    home: Path, kind: str, tmp_path: Path
) -> None:
    reference = tiny_parts.save_blip2(tmp_path / "blip2", home / "opt", kind)
    text = "question" if kind == "instructblip" else "none"
    block = tiny_parts.clip_block(home, "xformer", mae_enabled=False, text=text, text_length=32)
    block["encoders"] = [
        {"name": "eva", "family": "eva_clip", "checkpoint": str(tmp_path / "blip2"),
         "levels": [-1], "keep_prefix": True}
    ]  # fmt: skip
    block["fusion"]["ln_vision_eps"] = 1e-6
    block["language"] = {"checkpoint": str(home / "opt")}
    model, processor = make(block)
    source = WeightSource(checkpoint=str(tmp_path / "blip2"), format=kind)  # type: ignore[arg-type]
    taken = take_weights(model, tmp_path / "blip2", source)
    own = {name for name, _ in model.named_parameters() if name.startswith("fusion.")}
    assert own == set(taken)

    pixels = torch.randn(2, 3, 16, 16)
    words = torch.randint(4, 200, (2, 5))
    count = processor.visual_tokens
    asked: dict[str, Tensor] = {}
    if kind == "instructblip":
        ids = torch.randint(4, 200, (2, 6))
        asked = {"question_ids": ids, "question_mask": torch.ones_like(ids)}
    image = torch.full((2, count), processor.image_token_ids_by_role.image)
    ours = model(
        input_ids=torch.cat([image, words], dim=1), pixel_values_eva=pixels, **asked
    ).logits
    image = torch.full((2, count), tiny_parts.IMAGE_TOKEN)
    more = {f"qformer_{k.replace('question_', '')}": v for k, v in asked.items()}
    more = {k.replace("_mask", "_attention_mask").replace("_ids", "_input_ids"): v
            for k, v in more.items()}  # fmt: skip
    theirs = reference(
        pixel_values=pixels, input_ids=torch.cat([image, words], dim=1), **more
    ).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("language", ["llama", "opt", "t5"])
def test_the_second_stage_learns_with_every_kind_of_language_model(
    home: Path, language: str, pictures: list[Image.Image]
) -> None:
    block = tiny_parts.clip_block(home, "xformer")
    block["language"] = {"checkpoint": str(home / language)}
    model, processor = make(block)
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    batch = pairs(processor, pictures)
    optimizer = torch.optim.AdamW(model.fusion.parameters(), 1e-2)
    losses = []
    for _ in range(4):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    model.eval()
    prompt = processor.prompt([Turn("user", "<image>\nWhat?")])
    answer = model.generate(
        **processor.answer_inputs([prompt], pictures[:1]), max_new_tokens=3, do_sample=False
    )
    assert answer.shape[0] == 1


def test_the_question_reaches_the_qformer_in_training_and_in_answers(
    home: Path, pictures: list[Image.Image]
) -> None:
    block = tiny_parts.clip_block(home, text="question", text_length=32)
    model, processor = make(block)
    turns = (Turn("user", "<image>\nHow many?"), Turn("assistant", "two"))
    row = processor.encode(Sample("0", ("x",), turns), pictures[:1])
    batch = processor.collate([row, row])
    reader = processor.text_reader
    assert reader is not None
    assert reader.tokenizer.decode(batch["question_ids"][0]) == "<s>How many?</s>"
    prompt = processor.prompt(turns[:1])
    inputs = processor.answer_inputs([prompt], pictures[:1], questions=["How many?"])
    assert torch.equal(inputs["question_ids"], batch["question_ids"][:1])
    with torch.no_grad():
        two = processor.answer_inputs([prompt], pictures[:1], questions=["What colour?"])
        first, second = (
            model.encode_images(question, pixel_values_clip=inputs["pixel_values_clip"]).tokens
            for question in (texts(inputs), texts(two))
        )
    assert float((first - second).abs().max()) > 1e-4
    message = {"role": "user", "content": [{"type": "image", "image": pictures[0]},
                                           {"type": "text", "text": "How many?"}]}  # fmt: skip
    chat = processor.apply_chat_template([message], tokenize=True, return_dict=True)
    assert torch.equal(chat["question_ids"], batch["question_ids"][:1])
    assert model.generate(**chat, max_new_tokens=2, do_sample=False).shape[0] == 1


def texts(inputs: Any) -> FusionText:
    return FusionText(inputs["question_ids"], inputs["question_mask"])


def test_a_sample_without_image_trains_beside_one_with(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = make(tiny_parts.clip_block(home, text="question", text_length=32))
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    blind = Sample("0", (), (Turn("user", "Hello"), Turn("assistant", "hi")))
    seeing = Sample("1", ("x",), (Turn("user", "<image>\nWhat?"), Turn("assistant", "a")))
    rows = [processor.encode(blind, []), processor.encode(seeing, pictures[:1])]
    batch = processor.collate(rows)
    assert batch["question_ids"].shape[0] == 1
    together = model(**batch).loss
    only = processor.collate(rows[:1])
    alone = model(**only).loss
    alone.backward()
    assert bool(torch.isfinite(together))
    assert model.fusion.query_tokens.grad is not None  # no process waits for it


def test_an_image_free_sample_has_no_place_among_pairs(
    home: Path, pictures: list[Image.Image]
) -> None:
    _, processor = xformer(home)
    blind = Sample("b7", (), (Turn("user", "Hello"), Turn("assistant", "hi")))
    with pytest.raises(DataError, match=r"'b7': .* need one image and its text, got 0 image"):
        processor.encode(blind, [])


def test_captions_are_cleaned_and_cut(home: Path, pictures: list[Image.Image]) -> None:
    _, processor = xformer(home)
    words = "A Red (dot) beside it!! " * 20
    sample = Sample("0", ("x",), (Turn("user", "<image>\n?"), Turn("assistant", words)))
    row = processor.encode(sample, pictures[:1])
    reader = processor.text_reader
    assert reader is not None
    assert len(row["caption_ids"]) == FIRST["text_length"]
    assert reader.tokenizer.decode(row["caption_ids"]) == "<s>a red dot beside it a </s>"
    assert int(row["caption_ids"][-1]) == reader.last


# ---- gradients -------------------------------------------------------------------------------


def test_xformer_check_09_reconstruction_trains_what_it_passes(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    first_stage(model)
    trace = model(**pairs(processor, pictures), wanted=needs("reconstruction")).trace
    OBJECTIVES["reconstruction"](trace).backward()
    found = gradients(model)
    for part in ("dual.w_in", "dual.w_out", "dual.layers.0.local.cross", "ln_vision"):
        assert any(name.startswith(f"fusion.{part}") for name in found), part
    assert "fusion.query_tokens" in found
    assert any("crossattention" in name for name in found)
    assert not any(name.startswith("fusion.dual.layers.0.query") for name in found)
    assert all(p.grad is None for p in model.encoders.parameters())


def test_every_first_stage_parameter_learns_and_frozen_parts_rest(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    first_stage(model)
    assert not model.encoders["clip"].training and not model.encoders["mae"].decoder.training
    trace = model(**pairs(processor, pictures), wanted=needs(*FOUR)).trace
    total = sum(OBJECTIVES[name](trace) for name in FOUR)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for n, p in model.named_parameters() if not p.requires_grad)


def test_xformer_check_09_second_stage(home: Path, pictures: list[Image.Image]) -> None:
    model, processor = make(tiny_parts.clip_block(home, "xformer"))
    freeze(model, assign(model, {"fusion": True}))
    model.train()
    names = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"query_tokens", "ln_vision", "qformer", "projector", "dual"}
    assert model.fusion.dual.w_out is None  # belongs to reconstruction
    model(**pairs(processor, pictures)).loss.backward()
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    still = {name for name in learning - gradients(model) if not name.endswith("key.bias")}
    assert still == set()  # a bias of all keys moves no attention
    assert all(p.grad is None for n, p in model.named_parameters() if n not in learning)


def test_the_first_stage_runs_no_language_model(home: Path, pictures: list[Image.Image]) -> None:
    model, processor = xformer(home, idle=False)
    model.language_model.forward = None  # type: ignore[assignment]
    assert set(needs("itc", "itm", "itg")) <= set(
        model(**pairs(processor, pictures), wanted=needs("itc", "itm", "itg")).trace
    )
    idle, processor = xformer(home)
    assert not any(name.startswith("language_model.") for name, _ in idle.named_parameters())
    with pytest.raises(PartError, match="built without its language model"):
        idle(**pairs(processor, pictures))


# ---- determinism, saving ---------------------------------------------------------------------


@torch.no_grad()
def test_xformer_check_14_determinism(home: Path, pictures: list[Image.Image]) -> None:
    model, processor = xformer(home)
    batch = pairs(processor, pictures)
    pixels = {name: value for name, value in batch.items() if name.startswith("pixel_values_")}
    first, second = (model.encode_images(**pixels).tokens for _ in range(2))
    assert torch.equal(first, second)  # nothing hidden in evaluation
    model.train()
    noise = torch.rand(3, 16)
    one, two = (model.encode_images(**pixels, noise_mae=noise).tokens for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, model.encode_images(**pixels, noise_mae=1 - noise).tokens)


@torch.no_grad()
def test_xformer_check_14_logits_and_losses_are_bit_equal(
    home: Path, pictures: list[Image.Image]
) -> None:
    writer, processor = xformer(home, ratio=0.0, idle=False, reconstruct=False, text="none")
    writer.eval()
    batch = pairs(processor, pictures)
    first, second = (writer(**batch) for _ in range(2))
    assert first.logits.shape[-1] == writer.config.text_config.vocab_size
    assert torch.equal(first.logits, second.logits) and torch.equal(first.loss, second.loss)
    model, processor = xformer(home, ratio=0.5)
    batch = pairs(processor, pictures)
    model.train()  # masks are drawn in training only; the negatives are drawn alike
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(2))
    traces = []
    for given in (noise, noise, 1 - noise):
        torch.manual_seed(0)
        traces.append(model(**batch, noise_mae=given, wanted=needs(*FOUR)).trace)
    for name in needs(*FOUR):
        assert torch.equal(traces[0][name], traces[1][name]), name
    moved = [name for name in needs(*FOUR) if not torch.equal(traces[0][name], traces[2][name])]
    assert {"match_logits", "predicted_patches", "hidden_patches"} <= set(moved)


def test_a_first_stage_checkpoint_comes_back_whole(
    home: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    model, processor = xformer(home)
    first_stage(model)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path).eval()
    read = ManyEyesProcessor.from_pretrained(tmp_path)
    batch, same = pairs(processor, pictures), pairs(read, pictures)
    assert batch.keys() == same.keys() and all(torch.equal(batch[k], same[k]) for k in batch)
    model.eval()
    for name in needs("itc"):
        one, two = (m(**batch, wanted=needs("itc")).trace[name] for m in (model, again))
        assert torch.equal(one, two)
    parts = set(model.config.references)
    assert parts == {"encoders.clip.backbone", "encoders.mae.backbone", "encoders.mae.decoder"}
