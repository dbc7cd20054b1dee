"""The whole model: splice, gradients, generation, saving and loading, with tiny random parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError, PartError, PlaceholderError
from manyeyes.records import Sample, Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]
Pictures = list[Image.Image]


def batch(processor: ManyEyesProcessor, pictures: Pictures, count: int = 2) -> dict[str, Tensor]:
    rows = [
        processor.encode(
            Sample(
                str(i),
                ("x",),
                (Turn("user", f"<image>\nwhat{i}" + "?" * i), Turn("assistant", "a" * (i + 2))),
            ),
            [pictures[i]],
        )
        for i in range(count)
    ]
    return processor.collate(rows)


def freeze(model: ManyEyesForConditionalGeneration, *parts: str) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(parts))


def prompts(processor: ManyEyesProcessor, *questions: str) -> list[str]:
    return [processor.prompt([Turn("user", f"<image>\n{q}")]) for q in questions]


@torch.no_grad()
def test_comm_check_02_only_the_chosen_states_matter(build: Build, pictures: Pictures) -> None:
    """NaN in a state that is not read must not reach the output; in one that is, it must."""
    model, processor = build()
    pixels = processor.pixels(pictures[:1])
    encoders = {"clip": (3, {1, 2, 3}), "dinov2": (4, {3, 4})}
    for name, (blocks, read) in encoders.items():
        encoder = model.encoders[name]
        states = encoder.hidden_states(pixels[f"pixel_values_{name}"])
        for level in range(blocks + 1):
            for rows, matters in ((slice(0, 1), False), (slice(1, None), level in read)):
                broken = [state.clone() for state in states]
                broken[level][:, rows] = float("nan")
                bundle = {**model.encode(**pixels), name: encoder.select(broken, (4, 4))}
                tokens = model.fusion(bundle).tokens
                assert bool(tokens.isnan().any()) == matters, (name, level, rows)


def test_comm_check_10_gradients(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    freeze(model, "encoders.")
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("encoders."):
            assert parameter.grad is None, name
        elif name.startswith(("fusion.", "bridge.")):
            assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name
    for merger in model.fusion.mergers.values():
        assert abs(float(merger.scales.grad.sum())) < 1e-6


def test_comm_check_21_a_no_grad_around_the_mergers_is_detected(
    build: Build, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = build()
    whole = model.fusion.branches
    monkeypatch.setattr(model.fusion, "branches", torch.no_grad()(whole))
    model(**batch(processor, pictures)).loss.backward()
    assert all(p.grad is None for p in model.fusion.mergers.parameters())


@torch.no_grad()
def test_comm_check_18_the_splice_touches_only_placeholders(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    ids = processor.image_token_ids_by_role
    rows = batch(processor, pictures)
    visual = {k: v for k, v in rows.items() if k.startswith("pixel")}
    evidence = model.encode_images(**visual)
    embeddings = model.embed(rows["input_ids"], evidence, rows["image_counts"])
    plain = model.get_input_embeddings()(rows["input_ids"].clamp(max=250))
    at_image = rows["input_ids"] == ids.image
    assert torch.equal(embeddings[at_image].reshape(2, 16, -1), evidence.tokens)
    marker = (rows["input_ids"] == ids.start) | (rows["input_ids"] == ids.end)
    text = ~at_image & ~marker
    expected = model.get_input_embeddings()(rows["input_ids"].masked_fill(~text, 0))
    assert torch.equal(embeddings[text], expected[text])
    assert torch.equal(embeddings[rows["input_ids"] == ids.start][0], model.bridge.image_start)
    assert plain.shape == embeddings.shape


@torch.no_grad()
def test_comm_check_18_left_and_right_padding_give_the_same_logits(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    texts = prompts(processor, "a?", "something longer?")
    found = {}
    for side in ("left", "right"):
        inputs = processor(images=pictures[:2], text=texts, padding_side=side)
        logits = model(**inputs).logits
        found[side] = [logits[i][inputs["attention_mask"][i].bool()] for i in range(2)]
    for left, right in zip(found["left"], found["right"], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_comm_check_19_a_text_only_batch_gives_defined_zero_gradients(build: Build) -> None:
    model, processor = build()
    freeze(model, "encoders.", "language_model.")
    row = processor.encode(Sample("t", (), (Turn("user", "hi"), Turn("assistant", "yo"))), [])
    model.train()
    model(**processor.collate([row])).loss.backward()
    learning = [*model.fusion.parameters(), *model.bridge.parameters()]
    assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in learning)


def test_a_text_only_sample_beside_an_image(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    text = processor.encode(Sample("t", (), (Turn("user", "hi"), Turn("assistant", "yo"))), [])
    asked = Sample("i", ("x",), (Turn("user", "<image>?"), Turn("assistant", "a")))
    both = processor.collate([text, processor.encode(asked, pictures[:1])])
    alone = [processor.collate([text]), processor.collate([processor.encode(asked, pictures[:1])])]
    counts = [int((rows["labels"] != -100).sum()) for rows in alone]
    with torch.no_grad():
        losses = [model(**rows).loss * n for rows, n in zip(alone, counts, strict=True)]
        torch.testing.assert_close(model(**both).loss, sum(losses) / sum(counts))


@torch.no_grad()
def test_loss_equals_the_language_models_own(build: Build, pictures: Pictures) -> None:
    """Answer-position logits and the missing mask change nothing against plain transformers."""
    model, processor = build()
    rows = batch(processor, pictures, count=3)
    visual = {k: v for k, v in rows.items() if k.startswith("pixel")}
    embeddings = model.embed(rows["input_ids"], model.encode_images(**visual), rows["image_counts"])
    lengths = (rows["input_ids"] != processor.tokenizer.pad_token_id).long()
    plain = model.language_model(
        inputs_embeds=embeddings, attention_mask=lengths, labels=rows["labels"]
    )
    ours = model(**rows)
    torch.testing.assert_close(ours.loss, plain.loss, rtol=1e-5, atol=1e-6)
    assert ours.logits.shape[0] == int((rows["labels"][:, 1:] != -100).sum())


@torch.no_grad()
def test_loss_is_divided_by_the_given_number_of_tokens(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    rows = batch(processor, pictures)
    own = int((rows["labels"][:, 1:] != -100).sum())
    torch.testing.assert_close(
        model(**rows).loss * own, model(**rows, num_items_in_batch=100).loss * 100
    )


def test_frozen_parts_stay_in_eval(build: Build) -> None:
    model, _ = build()
    freeze(model, "encoders.clip")
    model.train()
    assert not model.encoders["clip"].training and not model.encoders["clip"].backbone.training
    assert model.encoders["dinov2"].training and model.language_model.training


@pytest.mark.parametrize("change", [-1, 1])
def test_mismatch_is_found_per_sample_even_when_totals_agree(
    build: Build, pictures: Pictures, change: int
) -> None:
    model, processor = build()
    rows = batch(processor, pictures)
    image = processor.image_token_ids_by_role.image
    first = int((rows["input_ids"][0] == image).nonzero()[0])
    second = int((rows["input_ids"][1] != image).nonzero()[0])
    rows["input_ids"][0, first], rows["input_ids"][1, second] = 5, image
    with pytest.raises(PlaceholderError, match=r"sample 0: 15 image tokens .* x 16 .* = 16"):
        model(**rows)


def test_missing_images_and_pixels_are_named(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    inputs = processor.answer_inputs(prompts(processor, "?"), pictures[:1])
    with pytest.raises(PlaceholderError, match="no image was given"):
        model.generate(inputs["input_ids"], max_new_tokens=2)
    with pytest.raises(PartError, match="pixel_values_dinov2"):
        model.encode_images(pixel_values_clip=inputs["pixel_values_clip"])


@torch.no_grad()
def test_stored_features_equal_pixels(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    pixels = processor.pixels(pictures)
    bundle = model.encode(**pixels)
    stored = {f"features_{name}": torch.stack(f.levels, dim=1) for name, f in bundle.items()}
    assert torch.equal(model.encode_images(**stored).tokens, model.encode_images(**pixels).tokens)


# ---- generation ---------------------------------------------------------------------------


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


# ---- saving and loading -------------------------------------------------------------------


def test_comm_check_22_light_checkpoint_round_trip(
    build: Build, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = build()
    freeze(model, "encoders.")
    model.train()
    model.eval()
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    saved = load_file(tmp_path / "m" / "model.safetensors")
    assert not [name for name in saved if name.startswith("encoders.")]
    for part in (
        "fusion.mergers.",
        "fusion.align.",
        "fusion.projector.",
        "bridge.",
        "language_model.",
    ):
        assert [name for name in saved if name.startswith(part)], part
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    assert isinstance(again, ManyEyesForConditionalGeneration)
    rows = batch(AutoProcessor.from_pretrained(tmp_path / "m"), pictures)
    with torch.no_grad():
        assert torch.equal(again(**rows).logits, model(**rows).logits)
    assert AutoConfig.from_pretrained(tmp_path / "m").visual_tokens == 16


def test_a_self_contained_export_needs_nothing_else(
    build: Build, pictures: Pictures, tmp_path: Path, parts: Path
) -> None:
    import shutil

    copy = tmp_path / "parts"
    shutil.copytree(parts, copy)
    block = tiny.model_block(copy)
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    freeze(model, "encoders.", "language_model.")
    model.save_pretrained(tmp_path / "full", self_contained=True)
    model.save_pretrained(tmp_path / "light")
    shutil.rmtree(copy)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "full")
    rows = batch(processor, pictures)
    with torch.no_grad():
        assert torch.equal(again(**rows).logits, model(**rows).logits)
    assert again.config.references == {}
    with pytest.raises(CheckpointError, match=r"clip.*hf download"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "light")


def test_another_base_model_is_refused(build: Build, tmp_path: Path, parts: Path) -> None:
    import shutil

    copy = tmp_path / "parts"
    shutil.copytree(parts, copy)
    config = ManyEyesConfig(**tiny.model_block(copy))
    ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    freeze(model, "encoders.", "language_model.")
    model.save_pretrained(tmp_path / "m")
    tiny.save_clip(copy / "clip", seed=99)
    with pytest.raises(CheckpointError, match=r"'encoders.clip.backbone'.*is not the checkpoint"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")


def test_a_truncated_file_is_refused(build: Build, tmp_path: Path) -> None:
    model, _ = build()
    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    file.unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")


def test_a_full_disk_leaves_the_previous_checkpoint(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from transformers import PreTrainedModel

    model, _ = build()
    model.save_pretrained(tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def full(self: Any, folder: Path, **_: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(CheckpointError, match=r"No space left.*previous checkpoint is unchanged"):
        model.save_pretrained(tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_part_trained_in_an_earlier_stage_stays_in_the_checkpoint(
    build: Build, tmp_path: Path
) -> None:
    model, _ = build()
    freeze(model, "encoders.")
    model.train()
    with torch.no_grad():
        model.language_model.lm_head.weight.add_(1.0)
    freeze(model, "encoders.", "language_model.")
    model.train()
    model.save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(
        again.language_model.lm_head.weight, model.language_model.lm_head.weight
    )
    freeze(again, "encoders.", "language_model.")
    again.save_pretrained(tmp_path / "n")
    third = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "n")
    assert torch.equal(third.language_model.lm_head.weight, again.language_model.lm_head.weight)


def test_references_carry_checkpoint_and_sha256(build: Build, tmp_path: Path, parts: Path) -> None:
    model, _ = build()
    freeze(model, "encoders.", "language_model.")
    model.save_pretrained(tmp_path)
    references = json.loads((tmp_path / "config.json").read_text())["references"]
    assert set(references) == {
        "encoders.clip.backbone",
        "encoders.dinov2.backbone",
        "language_model",
    }
    assert references["language_model"]["checkpoint"] == str(parts / "llama")
    assert all(len(entry["sha256"]) == 64 for entry in references.values())


def test_seeds_decide_the_fresh_parts(parts: Path) -> None:
    def projector(seed: int) -> Tensor:
        config = ManyEyesConfig(**tiny.model_block(parts))
        model = ManyEyesForConditionalGeneration.from_parts(config, seed=seed)
        return model.fusion.projector[0].weight

    assert torch.equal(projector(1), projector(1))
    assert not torch.equal(projector(1), projector(2))


# ---- the ecosystem ------------------------------------------------------------------------


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
